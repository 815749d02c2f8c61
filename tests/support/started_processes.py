"""The processes that tests start: only tests with the mark `processes` may do so."""

import sys

_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}

# Audit events of this process, in order: one for each process that it has started.
started: list[str] = []


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if event in _EVENTS:
        started.append(f"{event} {arguments[:1]}")


def record() -> None:
    """Record the processes that are started from now on. An audit hook cannot be removed."""
    sys.addaudithook(_record)
