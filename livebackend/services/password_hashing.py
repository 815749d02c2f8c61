"""Password hashing: bcrypt over a peppered digest, with rate limits and a queue."""

import base64
import hmac
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import bcrypt

from livebackend.core.cpu_binding import any_cpu
from livebackend.core.errors import ClientDisconnected, PasswordTooCommon
from livebackend.core.request_context import request_started_at, watch_connection
from livebackend.services.hashing_queue import HashingQueue
from livebackend.services.machine_semaphore import MachineSemaphore
from livebackend.services.rate_limits import RateLimit, RateLimiter

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


class PasswordHashing:
    """Hashes passwords; `semaphore` limits how many the machine hashes at once.

    Each hash counts for rate limits before its request enters the queue of this process.
    """

    def __init__(
        self,
        hasher: PasswordHasher,
        semaphore: MachineSemaphore,
        rate_limits: RateLimiter,
        *,
        max_callers: int,
        queue_timeout_s: float,
        reject_common: bool,
    ) -> None:
        self._hasher = hasher
        self._semaphore = semaphore
        self._rate_limits = rate_limits
        self._queue = HashingQueue(permits=len(semaphore), max_callers=max_callers)
        self._queue_timeout_s = queue_timeout_s
        self._reject_common = reject_common

    @contextmanager
    def acquire(
        self, *limits: RateLimit, client: str = "local", is_known_client: bool = True
    ) -> Iterator[PasswordHasher]:
        """Count a hash against the limits, wait for a permit and yield the hasher.

        Raises RateLimited. Raises ServiceUnavailable if there are too many callers, if the request
        began over `queue_timeout_s` ago, and after `stop`; ClientDisconnected if no client waits
        for the response any more.
        """
        is_connected = watch_connection.get()()
        deadline = (request_started_at.get() or time.monotonic()) + self._queue_timeout_s
        with any_cpu(), self._queue.enter(client, is_known_client=is_known_client) as place:
            # The limits are counted in the queue, so that a request that finds the queue full does
            # not count.
            self._rate_limits.consume(*limits)
            permit = place.wait(_seconds_until(deadline))
            with self._semaphore.acquire(permit, timeout_s=_seconds_until(deadline)):
                if not is_connected():
                    raise ClientDisconnected
                yield self._hasher

    def stop(self) -> None:
        """Make waiting and future calls of `acquire` fail with ServiceUnavailable."""
        self._queue.stop()

    def hash(self, password: str, *limits: RateLimit, client: str = "local") -> str:
        """Wait for a permit and hash a password. Raises the errors of `acquire`."""
        with self.acquire(*limits, client=client) as hasher:
            return hasher.hash(password)

    def reject_common(self, password: str, *, phone: str) -> None:
        """Raise PasswordTooCommon if the password is common or contains the phone number.

        Does nothing if the settings disable the check.
        """
        if self._reject_common and (password.lower() in _COMMON_PASSWORDS or phone in password):
            raise PasswordTooCommon


def hash_limits(*, account: str, address: str) -> tuple[RateLimit, RateLimit]:
    """Return the rate limits of a password hash."""
    return (
        RateLimit("password_hashes_address", address),
        RateLimit("password_hashes_account", account),
    )


def _seconds_until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
