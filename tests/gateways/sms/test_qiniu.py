"""Text messages through Qiniu, over real HTTP to a stand-in for it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from livebackend.config.settings import Settings
from livebackend.gateways.qiniu import Qiniu
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway
from livebackend.gateways.sms.qiniu import QiniuSms
from tests.support.qiniu_server import (
    ACCESS_KEY,
    SECRET_KEY,
    Answer,
    QiniuServer,
    answer,
    cut_off,
    qiniu_server,
    silence,
    trickle,
)
from tests.support.settings import REQUIRED_SETTINGS

PHONE, CODE = "13812345678", "0042"
DONE = answer(200, {"message_id": "17-abc"})


@pytest.fixture
def server() -> Iterator[QiniuServer]:
    with qiniu_server() as server:
        yield server


def sms(server: QiniuServer, secret_key: str = SECRET_KEY) -> QiniuSms:
    qiniu = Qiniu(server.url, access_key=ACCESS_KEY, secret_key=secret_key)
    return QiniuSms(qiniu, template="1234567890")


def test_a_code_is_sent_by_the_template(
    server: QiniuServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [DONE]
    assert isinstance(sms(server), SmsGateway)
    sms(server).send(PHONE, CODE)
    message = {"template_id": "1234567890", "mobile": PHONE, "parameters": {"code": CODE}}
    assert server.asked == [("POST", "/v1/message/single", message)]
    assert "message to 138****5678 is 17-abc" in caplog.text


@pytest.mark.parametrize(
    ("answers", "said", "level"),
    [
        (
            answer(400, {"error": "InvalidQueryValue", "message": "no"}),
            "InvalidQueryValue",
            "ERROR",
        ),
        (answer(403, {"error": "AccountBalanceNotEnough"}), "until Qiniu's account is", "CRITICAL"),
        (answer(401, {"error": "BadToken"}), "until Qiniu's account is mended", "CRITICAL"),
        (answer(401), "until Qiniu's account is mended", "CRITICAL"),
        (answer(429, {"error": "TooFrequent"}), "TooFrequent", "ERROR"),
        (answer(500, {"error": "ServerInternalError"}), "ServerInternalError", "ERROR"),
        (answer(502, b"<html>bad gateway</html>"), "502: the response is not JSON", "ERROR"),
        (answer(302, Location="http://127.0.0.1:1/"), "302", "ERROR"),
        (answer(200, b"<html>"), "not JSON", "ERROR"),
        (answer(200, {}), "names none", "ERROR"),
        (answer(200), "names none", "ERROR"),
        (answer(200, [1]), "names none", "ERROR"),
        (cut_off, "perhaps sent", "ERROR"),
    ],
)
def test_whatever_else_it_answers_is_a_failure_that_is_logged(
    answers: Answer, said: str, level: str, server: QiniuServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [answers]
    with pytest.raises(SmsFailed):
        sms(server).send(PHONE, CODE)
    (record,) = [each for each in caplog.records if each.name.endswith("sms.qiniu")]
    assert said in record.getMessage()
    assert record.levelname == level
    assert len(server.asked) == 1


@pytest.mark.processes
@pytest.mark.parametrize("answers", [silence, trickle])
def test_whoever_keeps_us_waiting_is_not_waited_for_nor_asked_again(
    answers: Answer, server: QiniuServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [answers]
    before = time.monotonic()
    with pytest.raises(SmsFailed, match="timeout"):
        sms(server).send(PHONE, CODE)
    assert time.monotonic() - before < 5  # 4 s are promised
    assert "perhaps sent: timeout" in caplog.text
    assert len(server.asked) == 1


def test_nobody_there_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    qiniu = Qiniu("http://127.0.0.1:1", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    with pytest.raises(SmsFailed, match="unreachable"):
        QiniuSms(qiniu, template="1").send(PHONE, CODE)
    assert "message to 138****5678 failed" in caplog.text


def test_a_wrong_key_is_for_the_operator(
    server: QiniuServer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SmsFailed, match="BadToken"):
        sms(server, "another key").send(PHONE, CODE)
    assert server.asked == []
    assert caplog.records[-1].levelname == "CRITICAL"


def settings(**more: Any) -> Settings:
    return Settings.load(
        {**REQUIRED_SETTINGS, **{name.replace("__", "."): more[name] for name in more}}, {}
    )


def test_it_is_made_from_the_settings(server: QiniuServer) -> None:
    server.answers = [DONE]
    given = {"qiniu__access_key": ACCESS_KEY, "qiniu__secret_key": SECRET_KEY}
    QiniuSms.from_settings(settings(sms__template="7", sms__url=server.url, **given)).send(
        PHONE, CODE
    )
    assert server.asked[0][2]["template_id"] == "7"
    with pytest.raises(ValueError, match=r"sms\.template, qiniu\.access_key, qiniu\.secret_key"):
        QiniuSms.from_settings(settings())
