"""Starts the event server as a child process, and starts it again if it ends."""

import fcntl
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import orjson

from livebackend.core.cpu_binding import unbind
from livebackend.core.private_files import open_private
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.development.event_server.options import EventServerOptions

log = logging.getLogger(__name__)

_MODULE = "livebackend.development.event_server.process"
_WATCH_INTERVAL_S = 0.2
# Pause before a restart; the longer one after a server that ended soon, such as one whose address
# is in use.
_RESTART_PAUSE_S, _FAILED_START_PAUSE_S = 0.2, 5.0
_SHORT_LIFE_S = 10.0
_STOP_TIMEOUT_S = 5.0


class EventServerSupervisor:
    """Runs the event server in one of the processes that have the same lock file.

    If that process ends, its server ends too, and another process starts a new one.
    """

    def __init__(self, options: EventServerOptions, lock_path: Path) -> None:
        self._options = options
        self._lock_path = lock_path
        self.thread = SupervisedThread("event server", self._run)

    def close(self) -> None:
        """Stop the server if this process has started it."""
        self.thread.close(2 * _STOP_TIMEOUT_S)

    def _run(self) -> None:
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._lock_path, "ab", opener=open_private) as lock_file:
            while not _try_lock(lock_file):
                if self.thread.closing.wait(_WATCH_INTERVAL_S):
                    return
            pause_s = 0.0
            while not self.thread.closing.wait(pause_s):
                pause_s = self._run_server(lock_file)

    def _run_server(self, lock_file: IO[bytes]) -> float:
        """Run the server until it ends or is closed; return the pause before a restart."""
        started_at = time.monotonic()
        server = self._start_server(lock_file)
        try:
            while server.poll() is None:
                if self.thread.closing.wait(_WATCH_INTERVAL_S):
                    return 0.0
        finally:
            _stop(server)
        log.error("event server: ended with code %s, it is started again", server.returncode)
        is_short_life = time.monotonic() < started_at + _SHORT_LIFE_S
        return _FAILED_START_PAUSE_S if is_short_life else _RESTART_PAUSE_S

    def _start_server(self, lock_file: IO[bytes]) -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # The environment of this process contains secrets.
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd="/",
            # Ctrl-C in a terminal must not reach the server: it ends with this process.
            start_new_session=True,
            # The server holds the lock too, until it no longer occupies the address.
            pass_fds=[lock_file.fileno()],
        )
        unbind(server.pid)
        if server.stdin:
            server.stdin.write(orjson.dumps(self._options._asdict()) + b"\n")
            server.stdin.flush()
        return server


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.stdin:
        server.stdin.close()
    try:
        server.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _try_lock(lock_file: IO[bytes]) -> bool:
    """Try to lock a file without waiting; the kernel releases the lock of an ended process."""
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
