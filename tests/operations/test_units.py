"""The systemd units, judged by systemd itself. Their commands are run in test_document.py."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.machine import ROOT

pytestmark = pytest.mark.processes

UNITS = sorted((ROOT / "deploy/systemd").iterdir())


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program where theirs will be installed."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/livebackend/bin/livebackend", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    assert {unit.suffix for unit in UNITS} == {".service", ".timer"}
    for unit in units.iterdir():
        done = subprocess.run(
            ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), unit.name


def test_a_server_may_do_little_on_its_machine(units: Path) -> None:
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--no-pager"),
            units / "livebackend@.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert float(exposure) < 2.5, done.stdout


def test_every_timer_has_its_service() -> None:
    for unit in UNITS:
        if unit.suffix == ".timer":
            assert unit.with_suffix(".service") in UNITS


def test_a_stop_waits_longer_than_any_call() -> None:
    text = (ROOT / "deploy/systemd/livebackend@.service").read_text()
    assert "KillSignal=SIGTERM" in text
    assert "TimeoutStopSec=20" in text


def test_what_the_tests_need_is_here() -> None:
    needed = ("nginx", "openssl", "curl", "faketime", "docker-compose", "systemd-analyze")
    assert [name for name in needed if not shutil.which(name)] == []
