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

_COMMON = frozenset(files(__package__).joinpath("common_passwords.txt").read_text("utf-8").split())


class PasswordHasher:
    """Hashes and verifies passwords with bcrypt; `cost` + 1 doubles the time."""

    def __init__(self, pepper: str, *, cost: int) -> None:
        self._pepper = pepper.encode()
        self._cost = cost
        # A valid hash format, so that a check takes the usual time. No password matches it.
        self._unmatchable_hash = bcrypt.gensalt(cost).decode() + "." * 31

    def hash(self, password: str) -> str:
        return bcrypt.hashpw(self._digest(password), bcrypt.gensalt(self._cost)).decode()

    def verify(self, password: str, password_hash: str | None) -> bool:
        """Return whether the password has this hash.

        Without a hash (None), the result is False and takes the same time.
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
        # bcrypt ignores bytes after the 72nd or a NUL. A base64 digest has 64 bytes and no NUL.
        return base64.b64encode(hmac.digest(self._pepper, password.encode(), "sha384"))


class MachineSemaphore:
    """A semaphore for all processes of a machine, with `number` slots.

    A slot is a file that its holder locks: the kernel releases the lock if the process is killed.
    """

    def __init__(self, folder: Path, permits: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / str(slot) for slot in range(permits)]
        for path in self._paths:
            if not path.exists():
                path.touch()

    def __len__(self) -> int:
        return len(self._paths)

    @contextmanager
    def acquire(self, slot: int) -> Iterator[None]:
        """Acquire any free slot. If none is free, wait for the given one, without a timeout."""
        with ExitStack() as stack:
            opened: list[BinaryIO] = []
            for path in self._paths[slot:] + self._paths[:slot]:
                opened.append(stack.enter_context(path.open("rb")))
                if _try_lock(opened[-1]):
                    break
            else:
                fcntl.flock(opened[0], fcntl.LOCK_EX)
            yield


class PasswordHashing:
    """Gives callers access to the hasher, limited by the slots of the machine.

    At most `max_callers` callers of this process hash or wait at a time.
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
        self._wait_s = queue_timeout_s
        self._common_refused = reject_common
        self._callers = Semaphore(max_callers)
        # Free slots of this process. Other processes can hold the same slot of the machine.
        self._free_slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(len(semaphore)):
            self._free_slots.put(slot)
        self._stopped = False

    @contextmanager
    def acquire(self) -> Iterator[PasswordHasher]:
        """Wait for a slot and yield the hasher.

        Raises ServiceUnavailable if there are too many callers, after `wait_s` seconds in the
        queue, and after `stop`.
        """
        if not self._callers.acquire(blocking=False):
            raise _unavailable()
        try:
            slot = self._free_slots.get(timeout=self._wait_s)
        except Empty:
            raise _unavailable() from None
        else:
            try:
                if self._stopped:
                    raise _unavailable()
                with self._semaphore.acquire(slot):
                    yield self._hasher
            finally:
                self._free_slots.put(slot)
        finally:
            self._callers.release()

    def stop(self) -> None:
        """Make all waiting and future callers fail with Unavailable."""
        self._stopped = True
        # An extra item wakes one waiting caller, which fails and puts it back for the next one.
        self._free_slots.put(0)

    def hash(self, password: str) -> str:
        """Wait for a slot and hash a password. Raises ServiceUnavailable as `turn` does."""
        with self.acquire() as hasher:
            return hasher.hash(password)

    def reject_common(self, password: str, *, phone: str) -> None:
        """Raise PasswordTooCommon if the password is common or contains the phone.

        Does nothing if the settings disable the check.
        """
        if self._common_refused and (password.lower() in _COMMON or phone in password):
            raise PasswordTooCommon


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unavailable() -> ServiceUnavailable:
    return ServiceUnavailable("password hashing: no slot is free")
