"""The number of CPU cores that this process can use."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
# Folders of the cgroup v1 controller `cpu`, relative to the mount point of the cgroups.
_V1_CONTROLLERS = ("cpu", "cpu,cpuacct")


def available_cpus(cgroups: Path = _CGROUPS, own_cgroups: Path = _OWN_CGROUPS) -> int:
    """Return the number of cores, limited by the CPU affinity and by the cgroups.

    A limit of 1.5 cores counts as 2: a second worker can use the half core.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *map(math.ceil, _quotas(cgroups, own_cgroups))]))


def _quotas(cgroups: Path, own_cgroups: Path) -> Iterator[float]:
    """Yield the limits, in cores, of the cgroups of this process and of their parents."""
    paths = {Path()}
    with suppress(OSError):
        for line in own_cgroups.read_text().splitlines():
            # Each line is `number:controllers:path`. In a container, the path can be that of the
            # host, which does not exist; then the mount point is the cgroup of the container.
            path = Path(line.split(":", 2)[2].lstrip("/"))
            paths |= {path, *path.parents}
    for path in paths:
        yield from _quota(cgroups / path / "cpu.max")
        for controller in _V1_CONTROLLERS:
            folder = cgroups / controller / path
            yield from _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _quota(*files: Path) -> Iterator[float]:
    # `cpu.max` has both numbers. No limit is `max` in cgroup v2, and -1 in v1.
    with suppress(OSError, ValueError):
        quota, period = (int(word) for file in files for word in file.read_text().split())
        if quota > 0 and period > 0:
            yield quota / period
