"""Qiniu's SMS gateway, over HTTP against a fake server."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from livebackend.config.settings import Settings
from livebackend.gateways.qiniu import QiniuClient
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway
from livebackend.gateways.sms.qiniu import QiniuSms
from tests.support.qiniu_server import (
    ACCESS_KEY,
    SECRET_KEY,
    QiniuServer,
    ResponseWriter,
    no_response,
    qiniu_server,
    response_writer,
    slow_response,
    truncated_response,
)
from tests.support.settings import REQUIRED_SETTINGS

PHONE, CODE = "13812345678", "0042"
SENT_RESPONSE = response_writer(200, {"message_id": "17-abc"})


@pytest.fixture
def server() -> Iterator[QiniuServer]:
    with qiniu_server() as server:
        yield server


def sms_gateway(server: QiniuServer, secret_key: str = SECRET_KEY) -> QiniuSms:
    qiniu = QiniuClient(server.url, access_key=ACCESS_KEY, secret_key=secret_key)
    return QiniuSms(qiniu, template="1234567890")


def test_code_is_sent_with_the_template(
    server: QiniuServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.responses = [SENT_RESPONSE]
    assert isinstance(sms_gateway(server), SmsGateway)
    sms_gateway(server).send(PHONE, CODE)
    message = {"template_id": "1234567890", "mobile": PHONE, "parameters": {"code": CODE}}
    assert server.received == [("POST", "/v1/message/single", message)]
    assert "message 17-abc sent to 138****5678" in caplog.text


@pytest.mark.parametrize(
    ("response", "message", "level"),
    [
        (
            response_writer(400, {"error": "InvalidQueryValue", "message": "no"}),
            "InvalidQueryValue",
            "ERROR",
        ),
        (
            response_writer(403, {"error": "AccountBalanceNotEnough"}),
            "rejects the account",
            "CRITICAL",
        ),
        (response_writer(401, {"error": "BadToken"}), "rejects the account", "CRITICAL"),
        (response_writer(401), "rejects the account", "CRITICAL"),
        (response_writer(429, {"error": "TooFrequent"}), "TooFrequent", "ERROR"),
        (response_writer(500, {"error": "ServerInternalError"}), "ServerInternalError", "ERROR"),
        (
            response_writer(502, b"<html>bad gateway</html>"),
            "502: Qiniu's response is not JSON",
            "ERROR",
        ),
        (response_writer(302, Location="http://127.0.0.1:1/"), "302", "ERROR"),
        (response_writer(200, b"<html>"), "not JSON", "ERROR"),
        (response_writer(200, {}), "has no message_id", "ERROR"),
        (response_writer(200), "has no message_id", "ERROR"),
        (response_writer(200, [1]), "has no message_id", "ERROR"),
        (truncated_response, "outcome unknown", "ERROR"),
    ],
)
def test_unsuccessful_response_fails_and_is_logged(
    response: ResponseWriter,
    message: str,
    level: str,
    server: QiniuServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.responses = [response]
    with pytest.raises(SmsFailed):
        sms_gateway(server).send(PHONE, CODE)
    (record,) = [entry for entry in caplog.records if entry.name.endswith("sms.qiniu")]
    assert message in record.getMessage()
    assert record.levelname == level
    assert len(server.received) == 1


@pytest.mark.processes
@pytest.mark.parametrize("response", [no_response, slow_response])
def test_hanging_server_times_out_and_gets_no_second_request(
    response: ResponseWriter, server: QiniuServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.responses = [response]
    start = time.monotonic()
    with pytest.raises(SmsFailed, match="timeout"):
        sms_gateway(server).send(PHONE, CODE)
    assert time.monotonic() - start < 5
    assert "outcome unknown: timeout" in caplog.text
    assert len(server.received) == 1


def test_unreachable_server_fails(caplog: pytest.LogCaptureFixture) -> None:
    qiniu = QiniuClient("http://127.0.0.1:1", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    with pytest.raises(SmsFailed, match="unreachable"):
        QiniuSms(qiniu, template="1").send(PHONE, CODE)
    assert "message to 138****5678 failed" in caplog.text


def test_wrong_key_is_logged_as_critical(
    server: QiniuServer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SmsFailed, match="BadToken"):
        sms_gateway(server, "another key").send(PHONE, CODE)
    assert server.received == []
    assert caplog.records[-1].levelname == "CRITICAL"


def settings(**changed_settings: Any) -> Settings:
    return Settings.load(
        {
            **REQUIRED_SETTINGS,
            **{name.replace("__", "."): changed_settings[name] for name in changed_settings},
        },
        {},
    )


def test_gateway_is_created_from_settings(server: QiniuServer) -> None:
    server.responses = [SENT_RESPONSE]
    keys = {"qiniu__access_key": ACCESS_KEY, "qiniu__secret_key": SECRET_KEY}
    QiniuSms.from_settings(settings(sms__template="7", sms__api_url=server.url, **keys)).send(
        PHONE, CODE
    )
    assert server.received[0][2]["template_id"] == "7"
    with pytest.raises(ValueError, match=r"sms\.template, qiniu\.access_key, qiniu\.secret_key"):
        QiniuSms.from_settings(settings())
