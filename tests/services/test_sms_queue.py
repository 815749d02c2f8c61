"""Verification codes that background threads send."""

import threading
from collections.abc import Callable

import pytest

from livebackend.core.errors import ServiceUnavailable
from livebackend.core.request_context import request_id
from livebackend.gateways.sms.protocol import SmsFailed
from livebackend.services.sms_queue import QueuedCode, SmsQueue


class BlockingSms:
    """SMS gateway whose calls wait until a test lets them continue."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_continue = threading.Event()
        self.calls = threading.Semaphore(0)
        self.sent: list[str] = []
        self.request_ids: list[str] = []
        self._error = error

    def send(self, phone: str, code: str) -> None:
        self.calls.release()
        assert self.may_continue.wait(10)
        if self._error:
            raise self._error
        self.sent.append(code)
        self.request_ids.append(request_id.get())


def queued(code: str | None, on_failure: Callable[[], None] = lambda: None) -> QueuedCode:
    return QueuedCode("13800000001", code, on_failure)


def test_code_is_sent_in_the_background_with_the_request_id_of_its_request() -> None:
    sms = BlockingSms()
    queue = SmsQueue(sms, delay_s=0)
    token = request_id.set("r1")
    queue.add(queued("1234"))
    request_id.reset(token)
    assert sms.sent == []
    sms.may_continue.set()
    assert queue.wait_until_empty(10)
    assert (sms.sent, sms.request_ids) == (["1234"], ["r1"])


def test_entry_without_a_code_sends_nothing() -> None:
    sms = BlockingSms()
    queue = SmsQueue(sms, delay_s=0)
    queue.add(queued(None))
    assert queue.wait_until_empty(10)
    assert sms.sent == []


@pytest.mark.parametrize("error", [SmsFailed("out of credit"), RuntimeError("unexpected")])
def test_failed_code_is_reported_and_later_codes_are_sent(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    sms, failures = BlockingSms(error), []
    queue = SmsQueue(sms, delay_s=0)
    sms.may_continue.set()
    for _ in range(3):
        queue.add(queued("1234", on_failure=lambda: failures.append(True)))
    assert queue.wait_until_empty(10)
    assert failures == [True] * 3
    assert "a queued verification code was not sent" in caplog.text


def test_thread_survives_a_failure_that_cannot_be_stored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise ConnectionError

    sms = BlockingSms(SmsFailed("out of credit"))
    queue = SmsQueue(sms, delay_s=0)
    sms.may_continue.set()
    for _ in range(3):
        queue.add(queued("1234", on_failure=fail))
        assert queue.wait_until_empty(10)
    assert "the failure of a queued verification code was not stored" in caplog.text


def test_code_that_has_waited_too_long_is_not_sent() -> None:
    sms, failures = BlockingSms(), []
    queue = SmsQueue(sms, delay_s=0, max_wait_s=-1)
    queue.add(queued("1234", on_failure=lambda: failures.append(True)))
    assert queue.wait_until_empty(10)
    assert (sms.sent, failures) == ([], [True])


def test_full_queue_rejects_codes_of_registered_and_unregistered_phones() -> None:
    sms = BlockingSms()
    queue = SmsQueue(sms, delay_s=0)
    threads_before = threading.active_count()
    for _ in range(2):
        queue.add(queued("1234"))
        assert sms.calls.acquire(timeout=10)  # a thread has taken the code
    for _ in range(200):
        queue.add(queued("1234"))
    for code in ("1234", None):
        with pytest.raises(ServiceUnavailable):
            queue.add(queued(code))
    assert threading.active_count() <= threads_before + 2
    sms.may_continue.set()
    assert queue.wait_until_empty(10)
    assert len(sms.sent) == 202
    queue.add(queued("1234"))


def test_closed_queue_sends_the_queued_codes_and_rejects_others() -> None:
    sms = BlockingSms()
    queue = SmsQueue(sms, delay_s=0)
    queue.add(queued("1234"))
    sms.may_continue.set()
    queue.close()
    assert sms.sent == ["1234"]
    with pytest.raises(ServiceUnavailable):
        queue.add(queued("1234"))


def test_queue_rejects_codes_while_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sms = BlockingSms()
    sms.may_continue.set()
    queue = SmsQueue(sms, delay_s=0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(ServiceUnavailable):
            queue.add(queued("1234"))
    assert queue.wait_until_empty(0)
    queue.add(queued("5678"))
    assert queue.wait_until_empty(10)
    assert sms.sent == ["5678"]


def test_gateway_that_exits_stops_neither_the_queue_nor_later_codes() -> None:
    class ExitingSms:
        def __init__(self) -> None:
            self.calls = 0

        def send(self, phone: str, code: str) -> None:
            self.calls += 1
            raise SystemExit(1)

    sms = ExitingSms()
    queue = SmsQueue(sms, delay_s=0)
    for _ in range(3):
        queue.add(queued("1234"))
    assert queue.wait_until_empty(10)
    assert sms.calls == 3
