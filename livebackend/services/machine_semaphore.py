"""A semaphore that all processes of a machine share."""

import fcntl
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from livebackend.core.errors import ServiceUnavailable
from livebackend.core.supervised_thread import start_thread

log = logging.getLogger(__name__)


class MachineSemaphore:
    """A semaphore with `permits` permits that all processes of a machine share.

    A permit is a file that its holder locks: the kernel releases the lock if the process is killed.
    """

    def __init__(self, folder: Path, permits: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / str(permit) for permit in range(permits)]
        for path in self._paths:
            if not path.exists():
                path.touch()
        self._waits = [_LockWait(path) for path in self._paths]

    def __len__(self) -> int:
        return len(self._paths)

    @contextmanager
    def acquire(self, permit: int, *, timeout_s: float) -> Iterator[None]:
        """Acquire any free permit; if none is free, wait for `permit`.

        Two threads of a process must not wait for the same permit. Raises ServiceUnavailable after
        `timeout_s`, for example if a stopped process holds the permits.
        """
        with ExitStack() as stack:
            for path in self._paths[permit:] + self._paths[:permit]:
                if _try_lock(stack.enter_context(path.open("rb"))):
                    break
            else:
                permit_file = self._waits[permit].lock(timeout_s)
                if permit_file is None:
                    raise ServiceUnavailable(
                        "password hashing: other processes of this machine hold all permits"
                    )
                stack.enter_context(permit_file)
            yield


class _LockWait:
    """Waits for the lock of one file, with a timeout, which flock() does not have.

    A helper thread calls flock(). After a timeout it still waits, and the next call of `lock` uses
    it: a file has at most one helper thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._is_helper_running = False
        self._is_caller_waiting = False
        self._locked_file: BinaryIO | None = None

    def lock(self, timeout_s: float) -> BinaryIO | None:
        """Return the locked file, which the caller must close; None after the timeout."""
        with self._changed:
            self._is_caller_waiting = True
            if not self._is_helper_running:
                # If the thread cannot start, this call fails after its timeout.
                self._is_helper_running = start_thread("hashing permit", self._help) is not None
            self._changed.wait_for(lambda: self._locked_file is not None, timeout_s)
            self._is_caller_waiting = False
            locked_file, self._locked_file = self._locked_file, None
            return locked_file

    def _help(self) -> None:
        locked_file: BinaryIO | None = None
        try:
            locked_file = self._locked()
        finally:
            with self._changed:
                self._is_helper_running = False
                if locked_file and self._is_caller_waiting:
                    self._locked_file = locked_file
                    self._changed.notify()
                elif locked_file:
                    locked_file.close()

    def _locked(self) -> BinaryIO | None:
        """Return the locked file; None after an error, and the caller then fails at its timeout."""
        try:
            with ExitStack() as stack:
                file = stack.enter_context(self._path.open("rb"))
                fcntl.flock(file, fcntl.LOCK_EX)
                stack.pop_all()
                return file
        except OSError:
            log.exception("password hashing: a permit cannot be locked")
            return None


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
