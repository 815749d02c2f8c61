"""Log formatters, and the secret scanner that checks the log of every test."""

import json
import logging
import sys

import pytest

from livebackend.core.request_context import request_id
from livebackend.development.sms import DevelopmentSms
from livebackend.monitoring.log_formatters import JsonFormatter, LineFormatter
from tests.support.api import SECRETS_IN_USE, ApiClient, UserClient
from tests.support.secret_scanner import find_leaks

FORMATTER = LineFormatter("%(levelname)s %(request_id)s %(name)s: %(message)s")


def format_line(message: str, *values: object) -> str:
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
def test_secret_scanner_finds_a_secret(text: str, secrets: set[str]) -> None:
    assert find_leaks(f"INFO - livebackend: something\n{text}\nINFO more", secrets)


@pytest.mark.parametrize(
    "text",
    [
        "message 17-abc sent to 138****5678",
        "stream 0f3a9c is still to be disabled",
        '{"request_id":"b13812345678a5e884898da28047151d","message":"x"}',
        "127.0.0.1 2026-11-24 05:23:05,078 INFO 5e884898da28047151d0e56f8dc62927 x",
    ],
)
def test_secret_scanner_accepts_a_log_without_secrets(text: str) -> None:
    assert find_leaks(text, {"0042", "harbour-42", "1"}) == []


def test_secret_scanner_collects_the_codes_tokens_and_keys_of_users(
    ann: UserClient, sms: DevelopmentSms
) -> None:
    code = ann.post("/register", token="13800000009").message
    ann.go_live()
    assert {code, ann.token} <= SECRETS_IN_USE
    assert any(len(secret) == 16 for secret in SECRETS_IN_USE)


def test_phone_number_in_a_log_message_is_masked() -> None:
    assert format_line("Key (phone)=(13812345678) exists").endswith(
        "Key (phone)=(138****5678) exists"
    )
    assert format_line("%s", 123456789012).endswith("123456789012")


def test_values_of_a_row_that_violates_a_constraint_are_removed() -> None:
    text = format_line("DETAIL:  Failing row contains (12, null, $2b$12$x (y), 2026).\nCONTEXT: x")
    assert text.endswith("DETAIL:  Failing row removed.\nCONTEXT: x")


def test_log_line_contains_the_request_id() -> None:
    assert format_line("x") == "INFO - livebackend.x: x"
    token = request_id.set("abc")
    assert format_line("x") == "INFO abc livebackend.x: x"
    request_id.reset(token)


def test_only_the_development_sms_gateway_logs_codes(
    api: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    api.post("/register", token="13800000009")
    assert [record.name for record in caplog.records] == ["livebackend.development.sms"]


class TestJsonFormatter:
    def record(self, message: str, *values: object, **attributes: object) -> logging.LogRecord:
        record = logging.LogRecord("livebackend.x", logging.INFO, "", 0, message, values, None)
        record.__dict__.update(attributes)
        return record

    def test_log_record_is_one_json_object_on_one_line(self) -> None:
        token = request_id.set("abc")
        text = JsonFormatter().format(self.record('a "quoted"\nline of %s', 13812345678))
        request_id.reset(token)
        assert "\n" not in text
        entry = json.loads(text)
        assert entry.pop("timestamp").endswith("+00:00")
        assert entry == {
            "level": "INFO",
            "logger": "livebackend.x",
            "request_id": "abc",
            "message": 'a "quoted"\nline of 138****5678',
        }

    def test_fields_of_the_log_record_are_added_to_the_json_object(self) -> None:
        entry = json.loads(JsonFormatter().format(self.record("x", fields={"ms": 1.5})))
        assert entry["ms"] == 1.5

    def test_secrets_in_a_traceback_are_masked(self) -> None:
        try:
            int("Key (phone)=(13812345678): Failing row contains (1, harbour-42)")
        except ValueError:
            error = sys.exc_info()
        entry = json.loads(JsonFormatter().format(self.record("x", exc_info=error)))
        assert "Traceback" in entry["error"]
        assert "138****5678" in entry["error"]
        assert "harbour" not in json.dumps(entry)
