"""Checks the systemd units with systemd-analyze.

test_operations_guide.py runs the commands of the units.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.machine import ROOT

pytestmark = pytest.mark.processes

UNIT_FILES = sorted((ROOT / "deploy/systemd").iterdir())


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with copies of the units, which run /bin/true instead of livebackend."""
    for unit in UNIT_FILES:
        text = unit.read_text().replace("/opt/livebackend/bin/livebackend", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_units_pass_systemd_analyze_verify(units: Path) -> None:
    assert {unit.suffix for unit in UNIT_FILES} == {".service", ".timer"}
    for unit in units.iterdir():
        completed = subprocess.run(
            ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
        )
        assert (completed.returncode, completed.stderr) == (0, ""), unit.name


def test_server_unit_has_a_low_exposure_level(units: Path) -> None:
    completed = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--no-pager"),
            units / "livebackend@.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    (exposure_level,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", completed.stdout)
    assert float(exposure_level) < 2.5, completed.stdout


def test_every_timer_unit_has_a_service_unit() -> None:
    for unit in UNIT_FILES:
        if unit.suffix == ".timer":
            assert unit.with_suffix(".service") in UNIT_FILES


def test_stop_timeout_is_longer_than_any_request() -> None:
    text = (ROOT / "deploy/systemd/livebackend@.service").read_text()
    assert "KillSignal=SIGTERM" in text
    assert "TimeoutStopSec=20" in text


def test_programs_that_the_tests_need_are_installed() -> None:
    needed_programs = ("nginx", "openssl", "curl", "faketime", "docker-compose", "systemd-analyze")
    assert [name for name in needed_programs if not shutil.which(name)] == []
