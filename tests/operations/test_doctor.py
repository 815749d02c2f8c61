"""`livebackend doctor` on set-ups that are broken for real: a full disk, and a clock that is off.

Database down, tables behind and a wrong SMS key are in tests/cli/test_doctor.py.
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

from tests.support.application import INI
from tests.support.doctor import SMS_TEMPLATES, failed_checks, sms_settings
from tests.support.qiniu_server import QiniuServer, qiniu_server

pytestmark = pytest.mark.processes


@pytest.fixture
def qiniu() -> Iterator[QiniuServer]:
    with qiniu_server() as server:
        server.answers = [SMS_TEMPLATES]
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, two megabytes large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def doctor(*before: str, **settings: str) -> dict[str, Any]:
    """What it prints, and whether its exit code says the same."""
    environment = {
        **os.environ,
        **{f"LIVEBACKEND_{name.upper()}": value for name, value in settings.items()},
    }
    done = subprocess.run(
        [*before, sys.executable, "-m", "livebackend.cli", "doctor", INI, "--json"],
        env=environment,
        cwd=INI.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["sound"] else 1), done.stderr
    return report


def test_the_disk_is_full(database_url: str, small_disk: Path) -> None:
    settings = {
        "database_url": database_url,
        "var_dir": str(small_disk),
        "pictures_free_bytes_min": "1000000",
    }
    assert failed_checks(doctor(**settings)) == {}
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "film").write_bytes(bytes(3_000_000))
    found = failed_checks(doctor(**settings))
    assert list(found) == ["disk"]
    assert "No space left on device" in found["disk"]


def test_the_disk_is_nearly_full(database_url: str, small_disk: Path) -> None:
    settings = {
        "database_url": database_url,
        "var_dir": str(small_disk),
        "pictures_free_bytes_min": "1000000",
    }
    (small_disk / "film").write_bytes(bytes(1_500_000))
    found = failed_checks(doctor(**settings))
    assert list(found) == ["disk"]
    assert "uploads are rejected" in found["disk"]


@pytest.mark.parametrize(("shift", "said"), [("+1d", "behind"), ("-1d", "ahead")])
def test_the_clock_is_off(
    shift: str, said: str, database_url: str, tmp_path: Path, qiniu: QiniuServer
) -> None:
    settings = {"database_url": database_url, "var_dir": str(tmp_path), **sms_settings(qiniu)}
    assert failed_checks(doctor(**settings)) == {}
    found = failed_checks(doctor("faketime", "-f", shift, **settings))
    assert list(found) == ["clock"]
    # Both others agree, so it is this machine's.
    for other in ("the database", qiniu.url):
        assert re.search(rf"{other} is 86,(399|400|401) s {said}", found["clock"])
