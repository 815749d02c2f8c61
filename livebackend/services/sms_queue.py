"""A queue of verification codes that background threads send by SMS."""

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from livebackend.core.errors import ServiceUnavailable
from livebackend.core.request_context import database_budget
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway

log = logging.getLogger(__name__)

# Fewer than the concurrent calls that a provider permits, so that a request that waits for its own
# message can send it.
_MAX_THREADS = 2
_MAX_LENGTH = 200
# A provider that needs more time is reported as blocked. Its calls end after 4 s.
_MAX_SEND_S = 20.0
# Seconds that `close` waits for the queue to become empty.
_CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class QueuedCode:
    """A code to send.

    If `code` is None, nothing is sent, but the entry occupies the queue like any other.
    `on_failure` is called if the message is not sent.
    """

    phone: str
    code: str | None
    on_failure: Callable[[], None]
    queued_at: float = field(default_factory=time.monotonic)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class SmsQueue:
    """Sends codes in background threads, so that no response waits for the provider.

    A code is sent `delay_s` after it is added. By then the response has been sent, so that the CPU
    time of the gateway does not delay the responses for registered phones. A code that has waited
    for `max_wait_s` is not sent, because the user has probably requested another code.
    """

    def __init__(self, sms: SmsGateway, *, delay_s: float = 0.1, max_wait_s: float = 30.0) -> None:
        self._sms = sms
        self._delay_s = delay_s
        self._max_wait_s = max_wait_s
        self._changed = threading.Condition()
        self._queue: deque[QueuedCode] = deque()
        # The number of entries that are in the queue or being sent.
        self._pending = 0
        self.threads = [
            SupervisedThread("SMS queue", partial(self._run, number), max_work_s=_MAX_SEND_S)
            for number in range(_MAX_THREADS)
        ]
        self._is_closed = False

    def raise_if_full(self) -> None:
        """Raise ServiceUnavailable if `add` would."""
        if self._is_closed or len(self._queue) >= _MAX_LENGTH:
            raise ServiceUnavailable("SMS: the queue is full, or the server is stopping")

    def add(self, entry: QueuedCode) -> None:
        """Queue a code. Raises ServiceUnavailable if the queue is full or no thread can start."""
        with self._changed:
            self.raise_if_full()
            are_running = [thread.start() for thread in self.threads[: self._pending + 1]]
            if not any(are_running):
                raise ServiceUnavailable("SMS: no thread can start")
            self._queue.append(entry)
            self._pending += 1
            self._changed.notify()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until all queued codes are sent or have failed; return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending == 0, timeout_s)

    def close(self) -> None:
        """Reject new codes, and wait up to `_CLOSE_TIMEOUT_S` for the queued ones."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self.wait_until_empty(_CLOSE_TIMEOUT_S)

    def _run(self, number: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closed)
                if not self._queue:
                    return
                entry = self._queue.popleft()
            try:
                time.sleep(max(0.0, entry.queued_at + self._delay_s - time.monotonic()))
                with self.threads[number].work():
                    entry.context.run(self._send, entry)
            finally:
                with self._changed:
                    self._pending -= 1
                    self._changed.notify_all()

    def _send(self, entry: QueuedCode) -> None:
        # The limit of the request that queued the code does not apply to its failure.
        database_budget.set(None)
        try:
            if entry.code is not None and not self._try_send(entry.phone, entry.code, entry):
                entry.on_failure()
        except Exception:  # an error must not end the thread
            log.exception("SMS: the failure of a queued verification code was not stored")

    def _try_send(self, phone: str, code: str, entry: QueuedCode) -> bool:
        if time.monotonic() > entry.queued_at + self._max_wait_s:
            log.error("SMS: a queued verification code was not sent: it waited too long")
            return False
        try:
            self._sms.send(phone, code)
        except SmsFailed as error:
            log.error("SMS: a queued verification code was not sent: %s", error)
            return False
        except Exception:  # an error must not end the thread
            log.exception("SMS: a queued verification code was not sent")
            return False
        return True
