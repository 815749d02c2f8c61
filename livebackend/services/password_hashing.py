"""Password hashing: bcrypt over a peppered digest, with a concurrency limit."""

import base64
import fcntl
import hmac
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Semaphore
from typing import BinaryIO

import bcrypt

from livebackend.core.errors import PasswordTooCommon, ServiceUnavailable

log = logging.getLogger(__name__)

_COMMON_PASSWORDS = frozenset(
    files(__package__).joinpath("common_passwords.txt").read_text("utf-8").split()
)


class PasswordHasher:
    """Hashes and verifies passwords with bcrypt.

    Each increment of `cost` doubles the time.
    """

    def __init__(self, pepper: str, *, cost: int) -> None:
        self._pepper = pepper.encode()
        self._cost = cost
        # A valid hash that no password matches. Checking a password against this hash takes as
        # long as against a stored hash.
        self._unmatchable_hash = bcrypt.gensalt(cost).decode() + "." * 31

    def hash(self, password: str) -> str:
        return bcrypt.hashpw(self._digest(password), bcrypt.gensalt(self._cost)).decode()

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Return whether the password has this hash.

        If `password_hash` is None, returns False, but takes as long as for a stored hash.
        """
        stored_hash = password_hash or self._unmatchable_hash
        try:
            return bcrypt.checkpw(self._digest(password), stored_hash.encode())
        except ValueError:
            log.exception("password hashing: a stored password hash has an invalid format")
            return False

    def needs_rehash(self, password_hash: str) -> bool:
        """Return whether a hash has a lower cost than the current setting."""
        return int(password_hash.split("$")[2]) < self._cost

    def _digest(self, password: str) -> bytes:
        # bcrypt ignores all bytes after the 72nd and after a NUL; a base64 digest has 64 bytes and
        # no NUL.
        return base64.b64encode(hmac.digest(self._pepper, password.encode(), "sha384"))


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

    def __len__(self) -> int:
        return len(self._paths)

    @contextmanager
    def acquire(self, permit: int) -> Iterator[None]:
        """Acquire any free permit; if none is free, wait for `permit` without a timeout."""
        with ExitStack() as stack:
            permit_files: list[BinaryIO] = []
            for path in self._paths[permit:] + self._paths[:permit]:
                permit_files.append(stack.enter_context(path.open("rb")))
                if _try_lock(permit_files[-1]):
                    break
            else:
                fcntl.flock(permit_files[0], fcntl.LOCK_EX)
            yield


class PasswordHashing:
    """Hashes passwords; `semaphore` limits how many the machine hashes at once.

    At most `max_callers` threads of this process hash a password or wait for a permit.
    """

    def __init__(
        self,
        hasher: PasswordHasher,
        semaphore: MachineSemaphore,
        *,
        max_callers: int,
        queue_timeout_s: float,
        reject_common: bool,
    ) -> None:
        self._hasher = hasher
        self._semaphore = semaphore
        self._queue_timeout_s = queue_timeout_s
        self._reject_common = reject_common
        self._callers = Semaphore(max_callers)
        # The permits that no thread of this process uses. Other processes can hold some of them.
        self._free_permits: SimpleQueue[int] = SimpleQueue()
        for permit in range(len(semaphore)):
            self._free_permits.put(permit)
        self._stopped = False

    @contextmanager
    def acquire(self) -> Iterator[PasswordHasher]:
        """Wait for a permit and yield the hasher.

        Raises ServiceUnavailable if there are too many callers, after `queue_timeout_s` seconds in
        the queue, and after `stop`.
        """
        if not self._callers.acquire(blocking=False):
            raise _unavailable()
        try:
            permit = self._free_permits.get(timeout=self._queue_timeout_s)
        except Empty:
            raise _unavailable() from None
        else:
            try:
                if self._stopped:
                    raise _unavailable()
                with self._semaphore.acquire(permit):
                    yield self._hasher
            finally:
                self._free_permits.put(permit)
        finally:
            self._callers.release()

    def stop(self) -> None:
        """Make all waiting and future calls of `acquire` fail with ServiceUnavailable."""
        self._stopped = True
        # An extra permit wakes one thread that waits in `acquire`. The thread fails and returns the
        # permit, which wakes the next waiting thread.
        self._free_permits.put(0)

    def hash(self, password: str) -> str:
        """Wait for a permit and hash a password. Raises ServiceUnavailable, see `acquire`."""
        with self.acquire() as hasher:
            return hasher.hash(password)

    def reject_common(self, password: str, *, phone: str) -> None:
        """Raise PasswordTooCommon if the password is common or contains the phone number.

        Does nothing if the settings disable the check.
        """
        if self._reject_common and (password.lower() in _COMMON_PASSWORDS or phone in password):
            raise PasswordTooCommon


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unavailable() -> ServiceUnavailable:
    return ServiceUnavailable(
        "password hashing: the concurrency limit is reached, or the server is stopping"
    )
