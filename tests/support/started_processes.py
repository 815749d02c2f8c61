"""Records started processes: only tests marked `processes` may start a process.

The decoder process of pictures is part of the application, so it is not recorded.
"""

import sys

DECODER_MODULE = "livebackend.storage.decoder_process"
_EVENTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}

# Audit event of each process that the test process has started.
started: list[str] = []


def _record(event: str, arguments: tuple[object, ...]) -> None:
    is_decoder = event == "subprocess.Popen" and DECODER_MODULE in arguments[1]  # type: ignore[operator]
    if event in _EVENTS and not is_decoder:
        started.append(f"{event} {arguments[:1]}")


def record() -> None:
    """Record process starts until the test process exits.

    The recording cannot stop earlier, because Python cannot remove an audit hook.
    """
    sys.addaudithook(_record)
