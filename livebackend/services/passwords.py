"""Password hashes: bcrypt over a peppered digest, and no more at once than the machine bears."""

import base64
import hmac
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from threading import BoundedSemaphore

import bcrypt

from livebackend.results import Failure, Reason, Unavailable

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


class Passwords:
    """Hands out the hasher, to `at_once` callers at a time."""

    def __init__(
        self, hasher: Hasher, *, at_once: int, wait_s: float, common_refused: bool
    ) -> None:
        self._hasher = hasher
        self._wait_s = wait_s
        self._common_refused = common_refused
        self._turns = BoundedSemaphore(at_once)

    @contextmanager
    def turn(self) -> Iterator[Hasher]:
        """One's turn to hash. Raises Unavailable after `wait_s` of waiting for it."""
        if not self._turns.acquire(timeout=self._wait_s):
            raise Unavailable("password hashers")
        try:
            yield self._hasher
        finally:
            self._turns.release()

    def hash(self, password: str) -> str:
        """The hash of a password, in a turn of its own."""
        with self.turn() as hasher:
            return hasher.hash(password)

    def refuse_common(self, password: str, *, phone: str) -> None:
        """Refuses, if told to, what everybody tries first, and what holds the account's own phone.

        Fails with: the refusal code.
        """
        if self._common_refused and (password.lower() in _COMMON or phone in password):
            raise Failure(None, "password", Reason.TOO_COMMON)
