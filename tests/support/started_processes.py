"""Records started processes: only tests marked `processes` may start any."""

import sys

_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}

# One audit event for each process that the test process has started.
started: list[str] = []


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if event in _EVENTS:
        started.append(f"{event} {arguments[:1]}")


def record() -> None:
    """Start recording. It cannot be stopped, because an audit hook cannot be removed."""
    sys.addaudithook(_record)
