"""Tests of `livebackend doctor` with a full disk and with a wrong clock.

tests/cli/test_doctor.py tests the other checks.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.application import DEVELOPMENT_INI
from tests.support.doctor import SMS_TEMPLATES, failed_checks, sms_settings
from tests.support.qiniu_server import QiniuServer, qiniu_server
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.processes


@pytest.fixture
def qiniu() -> Iterator[QiniuServer]:
    with qiniu_server() as server:
        server.responses = [SMS_TEMPLATES]
        yield server


@pytest.fixture(name="disk")
def mounted_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount point of a file system with a capacity of 2 MB."""
    with small_disk(tmp_path / "disk", 2) as folder:
        yield folder


def run_doctor(*command_prefix: str, **settings: str) -> dict[str, Any]:
    """Run `livebackend doctor`, check its exit code, and return its report."""
    environment = {
        **os.environ,
        **{f"LIVEBACKEND_{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "livebackend.cli", "doctor", str(DEVELOPMENT_INI), "--json"]
    completed = subprocess.run(
        [*command_prefix, *command],
        env=environment,
        cwd=DEVELOPMENT_INI.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    report: dict[str, Any] = json.loads(completed.stdout)
    assert completed.returncode == (0 if report["passed"] else 1), completed.stderr
    return report


def test_doctor_reports_a_full_disk(database_url: str, disk: Path) -> None:
    settings = {
        "database_url": database_url,
        "data_dir": str(disk),
        "pictures_min_free_disk_bytes": "1000000",
    }
    assert failed_checks(run_doctor(**settings)) == {}
    with pytest.raises(OSError, match="No space left"):
        (disk / "data").write_bytes(bytes(3_000_000))
    failed = failed_checks(run_doctor(**settings))
    assert list(failed) == ["disk"]
    assert "No space left on device" in failed["disk"]


def test_doctor_reports_too_little_free_disk_space(database_url: str, disk: Path) -> None:
    settings = {
        "database_url": database_url,
        "data_dir": str(disk),
        "pictures_min_free_disk_bytes": "1000000",
    }
    (disk / "data").write_bytes(bytes(1_500_000))
    failed = failed_checks(run_doctor(**settings))
    assert list(failed) == ["disk"]
    assert "uploads are rejected" in failed["disk"]


@pytest.mark.parametrize(("clock_shift", "direction"), [("+1d", "behind"), ("-1d", "ahead")])
def test_doctor_reports_a_wrong_clock(
    clock_shift: str, direction: str, database_url: str, tmp_path: Path, qiniu: QiniuServer
) -> None:
    settings = {"database_url": database_url, "data_dir": str(tmp_path), **sms_settings(qiniu)}
    assert failed_checks(run_doctor(**settings)) == {}
    failed = failed_checks(run_doctor("faketime", "-f", clock_shift, **settings))
    assert list(failed) == ["clock"]
    # The clocks of the database and of the provider both differ by one day from this machine.
    for clock in ("the database", qiniu.url):
        assert re.search(rf"{clock} is 86,(399|400|401) s {direction}", failed["clock"])
