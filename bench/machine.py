"""CPU time and memory of processes, read from /proc on Linux."""

import os
from contextlib import suppress
from pathlib import Path

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def process_tree(root_pid: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    child_pids_by_pid: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            child_pids_by_pid.setdefault(int(fields[1]), []).append(int(entry.name))
    pids = [root_pid]
    for pid in pids:
        pids += child_pids_by_pid.get(pid, [])
    return pids


def cpu_ms(pids: list[int]) -> float:
    """Return the CPU time that the processes have used so far."""
    fields_by_process = filter(None, map(_stat, pids))
    return sum(int(fields[11]) + int(fields[12]) for fields in fields_by_process) * _TICK_MS


def memory_mb(pids: list[int]) -> float:
    """Return the memory of the processes; shared pages count in proportion (PSS).

    A process that has ended has none.
    """
    total_kb = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total_kb += int(line.split()[1])
    return total_kb / 1024


def processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return "unknown"


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third on.

    Returns None if the process has ended.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
