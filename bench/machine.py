"""CPU time and memory of processes, read from /proc on Linux."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp


def process_tree(*root_pids: int) -> list[int]:
    """Return the ids of some processes and of all their descendants, each once."""
    child_pids_by_pid: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            child_pids_by_pid.setdefault(int(fields[1]), []).append(int(entry.name))
    pids = list(root_pids)
    for pid in pids:
        pids += [child for child in child_pids_by_pid.get(pid, []) if child not in pids]
    return pids


def listening_pids(port: int) -> list[int]:
    """Return the processes that listen on a TCP port, as far as this user may see them."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                _, address, _, state, *_, inode = line.split()[:10]
                if state == _LISTEN and int(address.rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{inode}]")
    processes = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [
        int(process.name) for process in processes if not sockets.isdisjoint(_open_files(process))
    ]


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


def _open_files(process: Path) -> Iterator[str]:
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for file in (process / "fd").iterdir():
            yield str(file.readlink())


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third on.

    Returns None if the process has ended.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
