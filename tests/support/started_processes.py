"""Records started processes: only tests marked `processes` may start a process."""

import sys

_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}

# Audit event of each process that the test process has started.
started: list[str] = []


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if event in _EVENTS:
        started.append(f"{event} {arguments[:1]}")


def record() -> None:
    """Record process starts until the test process exits.

    The recording cannot stop earlier, because Python cannot remove an audit hook.
    """
    sys.addaudithook(_record)
