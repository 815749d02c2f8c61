"""`livebackend doctor` names what is wrong. Disk and clock, for real, in tests/operations."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from livebackend.database.engine import Database
from livebackend.development.sms import DevelopmentSms
from livebackend.development.streams import DevelopmentStreams
from livebackend.gateways.streams import StreamFailed, StreamGateway
from livebackend.monitoring.diagnostics import Doctor
from livebackend.services.operator_orders import count_unserved_orders
from tests.support.commands import Operator
from tests.support.doctor import SMS_TEMPLATES, failed_checks, sms_settings
from tests.support.qiniu_server import (
    Answer,
    QiniuServer,
    answer,
    qiniu_server,
    silence,
)

CHECKS = ["database", "migrations", "disk", "sms", "streams", "payments", "clock"]


@pytest.fixture
def qiniu() -> Iterator[QiniuServer]:
    with qiniu_server() as server:
        server.answers = [SMS_TEMPLATES]
        yield server


def test_a_sound_installation(operator: Operator, qiniu: QiniuServer) -> None:
    report = operator.reads("doctor", **sms_settings(qiniu))
    assert failed_checks(report) == {}
    assert [finding["check"] for finding in report["findings"]] == CHECKS
    assert report["findings"][3]["says"] == "the keys and the template are valid"
    assert report["findings"][5]["says"] == "payments of embedded are credited"
    assert report["findings"][6]["says"] == f"agrees with the database and {qiniu.url}"
    assert operator.runs("doctor", **sms_settings(qiniu)).stdout.endswith("\nno faults\n")
    # It asked, and sent nothing.
    assert {(method, path.partition("?")[0]) for method, path, _ in qiniu.asked} == {
        ("GET", "/v1/template")
    }


def test_the_database_is_down(operator: Operator) -> None:
    nowhere: dict[str, Any] = {
        "database_url": "postgresql+psycopg2://livebackend@127.0.0.1:1/livebackend"
    }
    found = failed_checks(operator.reads("doctor", code=1, **nowhere))
    assert found.keys() == {"database", "migrations"}
    assert "PostgreSQL cannot be reached" in found["database"]
    words = operator.runs("doctor", code=1, **nowhere).stdout
    assert "FAULT database" in words
    assert "Check that PostgreSQL runs" in words
    assert words.endswith("\n2 faults\n")


def test_the_tables_are_behind(
    operator: Operator, new_database: Callable[[str], str], worker_id: str
) -> None:
    empty: dict[str, Any] = {"database_url": new_database(f"doctor_{worker_id}")}
    found = failed_checks(operator.reads("doctor", code=1, **empty))
    assert found == {"migrations": "the database schema is out of date"}
    assert "Run `livebackend migrate`" in operator.runs("doctor", code=1, **empty).stdout
    operator.runs("migrate", **empty)
    assert failed_checks(operator.reads("doctor", **empty)) == {}


def test_too_little_room(operator: Operator) -> None:
    found = failed_checks(operator.reads("doctor", code=1, pictures_free_bytes_min=str(10**15)))
    assert list(found) == ["disk"]
    assert "pictures.free_bytes_min (1,000,000,000,000,000)" in found["disk"]


def test_a_folder_that_cannot_be(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = failed_checks(operator.reads("doctor", code=1, var_dir=str(tmp_path / "file")))
    assert "Not a directory" in found["disk"]


@pytest.mark.parametrize(
    ("answers", "changed", "said"),
    [
        (SMS_TEMPLATES, {"qiniu_secret_key": "wrong"}, "BadToken"),
        (SMS_TEMPLATES, {"sms_template": "8"}, "template 8 does not exist"),
        (
            answer(200, {"items": [{"id": "7", "audit_status": "rejected"}]}),
            {},
            "template 7 has the state rejected, not passed",
        ),
        (answer(200, [1]), {}, "template 7 does not exist"),
        (answer(500, {"error": "ServerInternalError"}), {}, "ServerInternalError"),
        pytest.param(silence, {}, "timeout", marks=pytest.mark.processes),
    ],
)
def test_messages_cannot_be_sent(
    answers: Answer, changed: dict[str, str], said: str, operator: Operator, qiniu: QiniuServer
) -> None:
    qiniu.answers = [answers]
    found = failed_checks(operator.reads("doctor", code=1, **sms_settings(qiniu, **changed)))
    assert list(found) == ["sms"]
    assert said in found["sms"]


def test_faulty_settings_come_first(operator: Operator) -> None:
    assert "codes.ttl_s" in operator.runs("doctor", code=1, codes_ttl_s="0").stderr


class AskedStreams(DevelopmentStreams):
    """Can be asked who is on air, and refuses."""

    def on_air(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        raise StreamFailed("no such hub")


@pytest.fixture
def doctor(database: Database, tmp_path: Path) -> Callable[..., Doctor]:
    def make(ahead_s: float = 0, streams: StreamGateway | None = None) -> Doctor:
        return Doctor(
            database,
            DevelopmentSms(),
            streams or DevelopmentStreams(hub="x", clock=time.time),
            folder=tmp_path,
            free_bytes_min=0,
            sms_gateway="DevelopmentSms",
            sms_url="",
            unserved_orders=count_unserved_orders,
            clock=lambda: time.time() + ahead_s,
        )

    return make


def found_by(doctor: Doctor) -> dict[str, str]:
    return {each.check: each.says for each in doctor.findings() if not each.sound}


def test_a_provider_of_streams_that_refuses(doctor: Callable[..., Doctor]) -> None:
    found = found_by(doctor(streams=AskedStreams(hub="x", clock=lambda: 0.0)))
    assert list(found) == ["streams"]
    assert "no such hub" in found["streams"]


@pytest.mark.parametrize(("ahead_s", "said"), [(3600, "3,600 s behind"), (-90, "90 s ahead")])
def test_the_clock_is_off(ahead_s: float, said: str, doctor: Callable[..., Doctor]) -> None:
    found = found_by(doctor(ahead_s))
    assert found == {"clock": f"compared with this machine's clock, the database is {said}"}


@pytest.mark.parametrize("ahead_s", [0, 20, -20])
def test_a_clock_is_never_quite_right(ahead_s: float, doctor: Callable[..., Doctor]) -> None:
    assert found_by(doctor(ahead_s)) == {}
