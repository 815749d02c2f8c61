"""The number of CPU cores with affinity and cgroup limits."""

import os
from pathlib import Path

import pytest

from livebackend.core.cpu_count import available_cpus


@pytest.fixture(autouse=True)
def _machine_with_16_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


def count(folder: Path, own_cgroups: str, files: dict[str, str]) -> int:
    """Return the available CPUs with these files below the mount point of the cgroups."""
    (folder / "cgroups").mkdir()
    for name, content in files.items():
        path = folder / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "own").write_text(own_cgroups)
    return available_cpus(folder / "cgroups", folder / "own")


@pytest.mark.parametrize(
    ("own_cgroups", "files", "expected"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 16),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 16),
        ("0::/live/app\n", {"live/app/cpu.max": "max 100000", "live/cpu.max": "300000 100000"}, 3),
        ("0::/live/app\n", {"live/app/cpu.max": "400000 100000"}, 4),
        # A container that sees the path of the host.
        ("0::/docker/1234\n", {"cpu.max": "200000 100000\n"}, 2),
        (
            "4:cpu,cpuacct:/live\n0::/\n",
            {
                "cpu,cpuacct/live/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/live/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            "4:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            16,
        ),
    ],
)
def test_cgroup_limit_is_rounded_up_to_cores(
    own_cgroups: str, files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    assert count(tmp_path, own_cgroups, files) == expected


def test_cpu_affinity_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert count(tmp_path, "0::/\n", {"cpu.max": "900000 100000"}) == 2


def test_machine_without_cgroups_has_all_cores(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "no", tmp_path / "none") == 16
