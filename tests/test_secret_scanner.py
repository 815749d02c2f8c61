"""Tests of the search for secrets in logs."""

import pytest

from tests.support.secret_scanner import find_leaks


@pytest.mark.parametrize(
    "line",
    [
        "sent to 13800000001",
        "account 13800000001: removed",
        "phone13800000001",
        "token eyJ0eXAiOiJsb2dpbiIsInN1.GXfZ-Ph_hgakh935svA3F65tO",
        "hash $2b$12$abc",
        "connecting to postgresql+psycopg2://livebackend:pa55word@db/livebackend",
        "redis://:pa55word@127.0.0.1/0",
        "GET /golden?token=abc&refill=1",
        "POST /log?userId=1&password=harbour-42",
        "rtmp://publish.example/live/x?key=4ac90763943bd853",
        "{'Authorization': 'Qiniu abc:def='}",
        "authorization: Basic dXNlcjpwYXNz",
        "header Qiniu abcdefgh:ijklmnop=",
        "WECHATPAY2-SHA256-RSA2048 mchid=1900000001",
        "-----BEGIN RSA PRIVATE KEY-----",
        "the code 4321 is wrong",
    ],
)
def test_line_with_a_secret_is_found(line: str) -> None:
    assert find_leaks(f"first line\n{line}\nlast line", {"4321"}) == [line]


@pytest.mark.parametrize(
    "line",
    [
        "request 01380000000112345678901234567890 failed",
        "stream 586f13800000001b017852a1: closed",
        "order 8c1f5a52-13f8-4c0e-9d3a-13800000001a: paid",
        "connecting to postgresql+psycopg2://livebackend:***@db/livebackend",
        "server: starting 2 workers on http://127.0.0.1:6543",
        "transfer 4711380000000112 posted",
        "GET /list?limit=10",
        "X-Error: token; reason=invalid_token",
        "phone 138****0001",
    ],
)
def test_line_without_a_secret_is_not_found(line: str) -> None:
    assert find_leaks(line, {"4321"}) == []
