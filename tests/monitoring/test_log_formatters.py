"""What the log says, and what it never says. Every test's log goes through this scanner."""

import json
import logging
import sys

import pytest

from livebackend.core.request_context import request_id
from livebackend.development.sms import DevelopmentSms
from livebackend.monitoring.log_formatters import JsonFormatter, LineFormatter
from tests.support.api import SECRETS, Api, Person
from tests.support.secret_scanner import leaks

FORMATTER = LineFormatter("%(levelname)s %(request_id)s %(name)s: %(message)s")


def line(message: str, *values: object) -> str:
    record = logging.LogRecord("livebackend.x", logging.INFO, "", 0, message, values, None)
    return FORMATTER.format(record)


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("sent to 13812345678", set()),
        ("phone=13812345678,", set()),
        ("the code is 0042", {"0042"}),
        ("password harbour-42", {"harbour-42"}),
        ("token eyJ0eXAiOiJsb2dpbiJ9.c2lnbmF0dXJlLW9mLWl0", set()),
        ('{"publishKey":"0123456789abcdef"}', set()),
        ("publish key 0123456789abcdef", {"0123456789abcdef"}),
        ("$2b$12$abcdefghijklmnopqrstuv", set()),
    ],
)
def test_the_scanner_catches_a_planted_secret(text: str, secrets: set[str]) -> None:
    assert leaks(f"INFO - livebackend: something\n{text}\nINFO more", secrets)


@pytest.mark.parametrize(
    "text",
    [
        "message to 138****5678 is 17-abc",
        "stream 0f3a9c is still to be disabled",
        '{"request":"b13812345678a5e884898da28047151d","says":"x"}',
        "127.0.0.1 2026-11-24 05:23:05,078 INFO 5e884898da28047151d0e56f8dc62927 x",
    ],
)
def test_the_scanner_leaves_the_rest_alone(text: str) -> None:
    assert leaks(text, {"0042", "harbour-42", "1"}) == []


def test_what_everybody_sends_is_known_to_the_scanner(ann: Person, sms: DevelopmentSms) -> None:
    code = ann.post("/register", token="13800000009").message
    ann.live()
    assert {code, ann.token} <= SECRETS
    assert any(len(secret) == 16 for secret in SECRETS)


def test_a_phone_in_any_line_is_masked() -> None:
    assert line("Key (phone)=(13812345678) exists").endswith("Key (phone)=(138****5678) exists")
    assert line("%s", 123456789012).endswith("123456789012")


def test_a_row_that_broke_a_constraint_is_left_out() -> None:
    shown = line("DETAIL:  Failing row contains (12, null, $2b$12$x (y), 2026).\nCONTEXT: x")
    assert shown.endswith("DETAIL:  Failing row is not shown.\nCONTEXT: x")


def test_a_line_bears_its_requests_id() -> None:
    assert line("x") == "INFO - livebackend.x: x"
    token = request_id.set("abc")
    assert line("x") == "INFO abc livebackend.x: x"
    request_id.reset(token)


def test_the_embedded_gateway_alone_logs_codes(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.post("/register", token="13800000009")
    assert [record.name for record in caplog.records] == ["livebackend.development.sms"]


class TestJson:
    def record(self, message: str, *values: object, **more: object) -> logging.LogRecord:
        made = logging.LogRecord("livebackend.x", logging.INFO, "", 0, message, values, None)
        made.__dict__.update(more)
        return made

    def test_a_record_is_one_object_on_one_line(self) -> None:
        token = request_id.set("abc")
        text = JsonFormatter().format(self.record('a "quoted"\nline of %s', 13812345678))
        request_id.reset(token)
        assert "\n" not in text
        shown = json.loads(text)
        assert shown.pop("at").endswith("+00:00")
        assert shown == {
            "level": "INFO",
            "logger": "livebackend.x",
            "request": "abc",
            "says": 'a "quoted"\nline of 138****5678',
        }

    def test_fields_stand_beside_what_it_says(self) -> None:
        shown = json.loads(JsonFormatter().format(self.record("x", fields={"ms": 1.5})))
        assert shown["ms"] == 1.5

    def test_a_traceback_is_a_text_and_as_discreet(self) -> None:
        try:
            int("Key (phone)=(13812345678): Failing row contains (1, harbour-42)")
        except ValueError:
            error = sys.exc_info()
        shown = json.loads(JsonFormatter().format(self.record("x", exc_info=error)))
        assert "Traceback" in shown["error"]
        assert "138****5678" in shown["error"]
        assert "harbour" not in json.dumps(shown)
