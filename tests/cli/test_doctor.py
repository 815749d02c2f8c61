"""Tests of `livebackend doctor`.

tests/deployment/test_doctor.py tests a full disk and a wrong clock.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from livebackend.database.engine import Database
from livebackend.development.sms import DevelopmentSms
from livebackend.development.streams import DevelopmentStreams
from livebackend.gateways.streams import StreamFailed, StreamGateway, StreamReference
from livebackend.monitoring.diagnostics import Diagnostics
from livebackend.services.operator_orders import count_orders_without_gateway
from tests.support.commands import Operator
from tests.support.doctor import SMS_TEMPLATES, failed_checks, sms_settings
from tests.support.qiniu_server import (
    QiniuServer,
    ResponseWriter,
    no_response,
    qiniu_server,
    response_writer,
)

CHECK_NAMES = [
    "database",
    "migrations",
    "connections",
    "disk",
    "sms",
    "streams",
    "payments",
    "events",
    "clock",
]


@pytest.fixture(name="operator")
def operator_without_events(database_url: str, data_dir: Path) -> Operator:
    return Operator(database_url, data_dir, events_gateway="")


@pytest.fixture
def qiniu() -> Iterator[QiniuServer]:
    with qiniu_server() as server:
        server.responses = [SMS_TEMPLATES]
        yield server


def test_all_checks_pass_on_a_working_installation(operator: Operator, qiniu: QiniuServer) -> None:
    report = operator.run_json("doctor", **sms_settings(qiniu))
    assert failed_checks(report) == {}
    assert [result["check"] for result in report["checks"]] == CHECK_NAMES
    assert report["checks"][4]["message"] == "the SMS keys and the SMS template are valid"
    assert report["checks"][6]["message"] == "payments of embedded are credited"
    assert report["checks"][7]["message"] == "events.gateway is empty: no live events"
    assert report["checks"][8]["message"] == (
        f"this machine's clock agrees with the database and {qiniu.url}"
    )
    assert operator.run("doctor", **sms_settings(qiniu)).stdout.endswith("\nall checks passed\n")
    # The command queries the SMS templates of Qiniu, and sends no SMS.
    assert {(method, path.partition("?")[0]) for method, path, _ in qiniu.received} == {
        ("GET", "/v1/template")
    }


def test_unreachable_database_is_reported(operator: Operator) -> None:
    unreachable_database: dict[str, Any] = {
        "database_url": "postgresql+psycopg2://livebackend@127.0.0.1:1/livebackend"
    }
    message_by_failed_check = failed_checks(
        operator.run_json("doctor", code=1, **unreachable_database)
    )
    assert message_by_failed_check.keys() == {"database", "migrations"}
    assert "cannot be reached" in message_by_failed_check["database"]
    text = operator.run("doctor", code=1, **unreachable_database).stdout
    assert "FAILED database" in text
    assert "Check that PostgreSQL" in text
    assert text.endswith("\n2 of 9 checks failed\n")


def test_server_that_needs_more_connections_than_postgresql_allows_is_reported(
    operator: Operator,
) -> None:
    message_by_failed_check = failed_checks(
        operator.run_json("doctor", code=1, server_workers="64", database_connections="100")
    )
    assert message_by_failed_check.keys() == {"connections"}
    assert re.fullmatch(
        r"this server can open 6720 database connections, but PostgreSQL allows \d+",
        message_by_failed_check["connections"],
    )


def test_pending_migrations_are_reported(
    operator: Operator, new_database: Callable[[str], str], worker_id: str
) -> None:
    empty_database: dict[str, Any] = {"database_url": new_database(f"doctor_{worker_id}")}
    message_by_failed_check = failed_checks(operator.run_json("doctor", code=1, **empty_database))
    assert message_by_failed_check == {"migrations": "the database schema is out of date"}
    assert "Run `livebackend migrate`" in operator.run("doctor", code=1, **empty_database).stdout
    operator.run("migrate", **empty_database)
    assert failed_checks(operator.run_json("doctor", **empty_database)) == {}


def test_insufficient_disk_space_is_reported(operator: Operator) -> None:
    message_by_failed_check = failed_checks(
        operator.run_json("doctor", code=1, pictures_min_free_disk_bytes=str(10**15))
    )
    assert list(message_by_failed_check) == ["disk"]
    assert "pictures.min_free_disk_bytes (1,000,000,000,000,000)" in message_by_failed_check["disk"]


def test_data_folder_that_is_a_file_is_reported(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message_by_failed_check = failed_checks(
        operator.run_json("doctor", code=1, data_dir=str(tmp_path / "file"))
    )
    assert "Not a directory" in message_by_failed_check["disk"]


@pytest.mark.parametrize(
    ("response", "changed_settings", "message"),
    [
        (SMS_TEMPLATES, {"qiniu_secret_key": "wrong"}, "BadToken"),
        (SMS_TEMPLATES, {"sms_template": "8"}, "template 8 does not exist"),
        (
            response_writer(200, {"items": [{"id": "7", "audit_status": "rejected"}]}),
            {},
            "template 7 has the state 'rejected', but only",
        ),
        (response_writer(200, [1]), {}, "template 7 does not exist"),
        (response_writer(500, {"error": "ServerInternalError"}), {}, "ServerInternalError"),
        pytest.param(no_response, {}, "timeout", marks=pytest.mark.processes),
    ],
)
def test_sms_gateway_that_cannot_send_is_reported(
    response: ResponseWriter,
    changed_settings: dict[str, str],
    message: str,
    operator: Operator,
    qiniu: QiniuServer,
) -> None:
    qiniu.responses = [response]
    message_by_failed_check = failed_checks(
        operator.run_json("doctor", code=1, **sms_settings(qiniu, **changed_settings))
    )
    assert list(message_by_failed_check) == ["sms"]
    assert message in message_by_failed_check["sms"]


def test_invalid_settings_are_reported_before_any_check_runs(operator: Operator) -> None:
    assert "codes.ttl_s" in operator.run("doctor", code=1, codes_ttl_s="0").stderr


class FailingQueryStreams(DevelopmentStreams):
    """Stream gateway that fails to query the live publishers."""

    def live_publishers(self, streams: Sequence[StreamReference]) -> Mapping[str, str | None]:
        raise StreamFailed("no such hub")


@pytest.fixture
def new_diagnostics(database: Database, tmp_path: Path) -> Callable[..., Diagnostics]:
    def create(clock_ahead_s: float = 0, streams: StreamGateway | None = None) -> Diagnostics:
        return Diagnostics(
            database,
            DevelopmentSms(),
            streams or DevelopmentStreams(hub="x", clock=time.time),
            data_dir=tmp_path,
            min_free_bytes=0,
            required_connections=1,
            sms_gateway="DevelopmentSms",
            sms_api_url="",
            count_orders_without_gateway=count_orders_without_gateway,
            clock=lambda: time.time() + clock_ahead_s,
        )

    return create


def failed_messages(diagnostics: Diagnostics) -> dict[str, str]:
    return {
        result.check: result.message for result in diagnostics.run_checks() if not result.passed
    }


def test_failing_stream_provider_is_reported(new_diagnostics: Callable[..., Diagnostics]) -> None:
    message_by_failed_check = failed_messages(
        new_diagnostics(streams=FailingQueryStreams(hub="x", clock=lambda: 0.0))
    )
    assert list(message_by_failed_check) == ["streams"]
    assert "no such hub" in message_by_failed_check["streams"]


@pytest.mark.parametrize(
    ("clock_ahead_s", "message"), [(3600, "3,600 s behind"), (-90, "90 s ahead")]
)
def test_wrong_clock_is_reported(
    clock_ahead_s: float, message: str, new_diagnostics: Callable[..., Diagnostics]
) -> None:
    message_by_failed_check = failed_messages(new_diagnostics(clock_ahead_s))
    assert message_by_failed_check == {
        "clock": f"compared with this machine's clock, the database is {message}"
    }


@pytest.mark.parametrize("clock_ahead_s", [0, 20, -20])
def test_clock_difference_of_20_seconds_is_accepted(
    clock_ahead_s: float, new_diagnostics: Callable[..., Diagnostics]
) -> None:
    assert failed_messages(new_diagnostics(clock_ahead_s)) == {}
