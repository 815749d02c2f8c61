"""Password hashes: bcrypt over a peppered digest, and no more at once than the machine bears."""

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

from livebackend.core.errors import PasswordTooCommon, Unavailable

log = logging.getLogger(__name__)

_COMMON = frozenset(files(__package__).joinpath("common_passwords.txt").read_text("utf-8").split())


class Hasher:
    """Hashes and checks passwords, as slowly as `cost` says: one more doubles bcrypt's time."""

    def __init__(self, pepper: str, *, cost: int) -> None:
        self._pepper = pepper.encode()
        self._cost = cost
        # It has the form of a hash, so that checking against it takes as long; nothing matches.
        self._nobodys_hash = bcrypt.gensalt(cost).decode() + "." * 31

    def hash(self, password: str) -> str:
        return bcrypt.hashpw(self._digest(password), bcrypt.gensalt(self._cost)).decode()

    def match(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password; as slow, and False, for nobody's hash (None)."""
        known = password_hash or self._nobodys_hash
        try:
            return bcrypt.checkpw(self._digest(password), known.encode())
        except ValueError:
            log.exception("a password's hash is damaged")
            return False

    def is_cheap(self, password_hash: str) -> bool:
        """Whether a hash was made at less than today's cost."""
        return int(password_hash.split("$")[2]) < self._cost

    def _digest(self, password: str) -> bytes:
        # bcrypt reads 72 bytes and stops at a NUL: a base64 digest has 64 and none.
        return base64.b64encode(hmac.digest(self._pepper, password.encode(), "sha384"))


class Slots:
    """So many may work at a time on this machine, whatever processes they are in.

    A slot is a file, locked by who works: it is free again even when that one is killed.
    """

    def __init__(self, folder: Path, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [folder / str(slot) for slot in range(number)]
        for file in self._files:
            if not file.exists():
                file.touch()

    def __len__(self) -> int:
        return len(self._files)

    @contextmanager
    def held(self, slot: int) -> Iterator[None]:
        """Any slot that is free; when none is, that one, as soon as its holder is done."""
        with ExitStack() as opened:
            tried: list[BinaryIO] = []
            for path in self._files[slot:] + self._files[:slot]:
                tried.append(opened.enter_context(path.open("rb")))
                if _locked_at_once(tried[-1]):
                    break
            else:
                fcntl.flock(tried[0], fcntl.LOCK_EX)
            yield


class Passwords:
    """Hands out the hasher: to one caller for each slot; others wait, `callers_max` in all."""

    def __init__(
        self,
        hasher: Hasher,
        slots: Slots,
        *,
        callers_max: int,
        wait_s: float,
        common_refused: bool,
    ) -> None:
        self._hasher = hasher
        self._slots = slots
        self._wait_s = wait_s
        self._common_refused = common_refused
        self._places = Semaphore(callers_max)
        # A turn is the number of a slot to wait for.
        self._turns: SimpleQueue[int] = SimpleQueue()
        for slot in range(len(slots)):
            self._turns.put(slot)
        self._stopped = False

    @contextmanager
    def turn(self) -> Iterator[Hasher]:
        """One's turn to hash.

        Raises Unavailable where there are too many callers, after `wait_s`, and once stopped.
        """
        if not self._places.acquire(blocking=False):
            raise _unavailable()
        try:
            slot = self._turns.get(timeout=self._wait_s)
        except Empty:
            raise _unavailable() from None
        else:
            try:
                if self._stopped:
                    raise _unavailable()
                with self._slots.held(slot):
                    yield self._hasher
            finally:
                self._turns.put(slot)
        finally:
            self._places.release()

    def stop(self) -> None:
        """Sends away whoever waits, and whoever comes."""
        self._stopped = True
        # One more turn than there is: who gets it is sent away, and hands it on to the next.
        self._turns.put(0)

    def hash(self, password: str) -> str:
        """The hash of a password, in a turn of its own."""
        with self.turn() as hasher:
            return hasher.hash(password)

    def refuse_common(self, password: str, *, phone: str) -> None:
        """Raise PasswordTooCommon for a common password, or one that contains the user's phone.

        Does nothing if the settings switch the check off.
        """
        if self._common_refused and (password.lower() in _COMMON or phone in password):
            raise PasswordTooCommon


def _locked_at_once(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unavailable() -> Unavailable:
    return Unavailable("password hashers")
