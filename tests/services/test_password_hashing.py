"""Password hashes, and the concurrency limit of hashing."""

import fcntl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest

from livebackend.core.errors import ClientDisconnected, RateLimited, ServiceUnavailable
from livebackend.core.request_context import request_started_at, watch_connection
from livebackend.database.engine import Database
from livebackend.database.rate_limit_counters import RateLimitCounters
from livebackend.services.machine_semaphore import MachineSemaphore
from livebackend.services.password_hashing import PasswordHasher, PasswordHashing
from livebackend.services.rate_limits import RateLimit, RateLimiter
from tests.support.api import run_concurrently

LIMIT = RateLimit("hashes", "ann")


def new_hasher(pepper: str = "p" * 32) -> PasswordHasher:
    return PasswordHasher(pepper, cost=4)


@pytest.fixture
def rate_limits(database: Database) -> RateLimiter:
    return RateLimiter(RateLimitCounters(database), {"hashes": "2 per hour"}, key=b"key")


@pytest.fixture
def new_password_hashing(
    tmp_path: Path, rate_limits: RateLimiter
) -> Callable[..., PasswordHashing]:
    def create(
        permits: int = 1, queue_timeout_s: float = 0.05, max_callers: int = 20
    ) -> PasswordHashing:
        return PasswordHashing(
            new_hasher(),
            MachineSemaphore(tmp_path, permits),
            rate_limits,
            max_callers=max_callers,
            queue_timeout_s=queue_timeout_s,
            reject_common=True,
        )

    return create


def test_hash_matches_only_its_password() -> None:
    password_hash = new_hasher().hash("abcd1234")
    assert new_hasher().verify("abcd1234", password_hash)
    assert not new_hasher().verify("abcd1235", password_hash)


def test_hash_does_not_match_with_another_pepper() -> None:
    assert not new_hasher("q" * 32).verify("abcd1234", new_hasher().hash("abcd1234"))


def test_equal_passwords_have_different_hashes() -> None:
    assert new_hasher().hash("abcd1234") != new_hasher().hash("abcd1234")


@pytest.mark.parametrize(
    "password",
    ["a" * 72 + "1", "a\0b", "密" * 128, ""],
    ids=["73 bytes", "NUL", "Chinese", "empty"],
)
def test_every_character_of_a_password_is_hashed(password: str) -> None:
    # bcrypt ignores bytes after the 72nd and after a NUL; PasswordHasher must not ignore them.
    password_hash = new_hasher().hash(password)
    assert new_hasher().verify(password, password_hash)
    assert not new_hasher().verify(password + "x", password_hash)
    assert len(password_hash) == 60


def test_verification_without_a_hash_computes_bcrypt_at_the_same_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = []
    checkpw = bcrypt.checkpw

    def record_and_check(password: bytes, password_hash: bytes) -> bool:
        costs.append(password_hash[:7])
        return checkpw(password, password_hash)

    monkeypatch.setattr(bcrypt, "checkpw", record_and_check)
    assert not new_hasher().verify("abcd1234", None)
    assert not new_hasher().verify("abcd1234", new_hasher().hash("other1234"))
    assert costs[0] == costs[1] == b"$2b$04$"


def test_hash_with_an_invalid_format_matches_no_password_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert not new_hasher().verify("abcd1234", "nonsense")
    assert "a stored password hash has an invalid format" in caplog.text


@pytest.mark.parametrize("process_count", [1, 3])
def test_concurrent_hashing_is_limited_across_the_processes_of_a_machine(
    process_count: int, new_password_hashing: Callable[..., PasswordHashing]
) -> None:
    # The instances share only the directory of the semaphore, as separate processes do.
    instances = [new_password_hashing(permits=2, queue_timeout_s=5) for _ in range(process_count)]
    running_count, max_running_count, lock = 0, 0, threading.Lock()

    def hold_semaphore_briefly(password_hashing: PasswordHashing) -> None:
        nonlocal running_count, max_running_count
        with password_hashing.acquire():
            with lock:
                running_count += 1
                max_running_count = max(max_running_count, running_count)
            time.sleep(0.01)
            with lock:
                running_count -= 1

    threads = [
        threading.Thread(target=hold_semaphore_briefly, args=(password_hashing,))
        for password_hashing in instances * 8
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max_running_count == 2


def test_call_that_times_out_in_the_queue_fails_and_does_not_block_later_calls(
    new_password_hashing: Callable[..., PasswordHashing],
) -> None:
    password_hashing = new_password_hashing()
    with password_hashing.acquire(), pytest.raises(ServiceUnavailable):
        password_hashing.hash("abcd1234")
    assert password_hashing.hash("abcd1234")


def test_calls_over_max_callers_fail_at_once(
    new_password_hashing: Callable[..., PasswordHashing],
) -> None:
    password_hashing = new_password_hashing(queue_timeout_s=5, max_callers=3)
    hashed, rejected = [], []

    def hash_password() -> None:
        try:
            hashed.append(password_hashing.hash("abcd1234"))
        except ServiceUnavailable:
            rejected.append(True)

    with password_hashing.acquire():
        threads = [threading.Thread(target=hash_password) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(rejected) < 3:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert (len(hashed), len(rejected)) == (2, 3)
    assert password_hashing.hash("abcd1234")


def test_stop_makes_waiting_and_later_calls_fail(
    new_password_hashing: Callable[..., PasswordHashing],
) -> None:
    password_hashing = new_password_hashing(queue_timeout_s=30)

    def fail_to_hash() -> None:
        with pytest.raises(ServiceUnavailable):
            password_hashing.hash("abcd1234")

    with password_hashing.acquire():
        run_concurrently(*[fail_to_hash] * 5, password_hashing.stop)
        fail_to_hash()  # calls after stop() fail as well


def test_hash_over_a_rate_limit_is_not_computed(
    new_password_hashing: Callable[..., PasswordHashing],
) -> None:
    password_hashing = new_password_hashing()
    for _ in range(2):
        assert password_hashing.hash("abcd1234", LIMIT)
    with pytest.raises(RateLimited), password_hashing.acquire(LIMIT):
        pytest.fail("a permit was acquired")
    assert password_hashing.hash("abcd1234")


def test_hash_is_counted_before_it_waits_for_a_permit(
    new_password_hashing: Callable[..., PasswordHashing], rate_limits: RateLimiter
) -> None:
    password_hashing = new_password_hashing()
    with password_hashing.acquire():
        for _ in range(2):
            with pytest.raises(ServiceUnavailable):
                password_hashing.hash("abcd1234", LIMIT)
        with pytest.raises(RateLimited):
            password_hashing.hash("abcd1234", LIMIT)


def test_request_that_finds_the_queue_full_counts_for_no_rate_limit(
    new_password_hashing: Callable[..., PasswordHashing], rate_limits: RateLimiter
) -> None:
    password_hashing = new_password_hashing(max_callers=1)
    with password_hashing.acquire():
        for _ in range(5):
            with pytest.raises(ServiceUnavailable):
                password_hashing.hash("abcd1234", LIMIT)
    assert not rate_limits.is_exceeded(LIMIT)


def test_request_whose_client_has_disconnected_computes_no_hash(
    new_password_hashing: Callable[..., PasswordHashing],
) -> None:
    password_hashing = new_password_hashing(queue_timeout_s=5)
    connected = [True, False]
    token = watch_connection.set(lambda: connected.pop)
    try:
        with pytest.raises(ClientDisconnected), password_hashing.acquire():
            pytest.fail("a permit was acquired")
        with password_hashing.acquire():
            pass
    finally:
        watch_connection.reset(token)
    assert connected == []


def test_queue_timeout_is_measured_from_the_start_of_the_request(
    new_password_hashing: Callable[..., PasswordHashing],
) -> None:
    # A change of the password hashes twice, and both waits together end before the timeout.
    password_hashing = new_password_hashing(queue_timeout_s=60)
    token = request_started_at.set(time.monotonic() - 60)
    try:
        with password_hashing.acquire(), pytest.raises(ServiceUnavailable):
            password_hashing.hash("abcd1234")
    finally:
        request_started_at.reset(token)


def test_queue_timeout_bounds_the_wait_for_a_permit_that_another_process_holds(
    new_password_hashing: Callable[..., PasswordHashing], tmp_path: Path
) -> None:
    password_hashing = new_password_hashing(queue_timeout_s=0.05)
    with (tmp_path / "0").open("rb") as permit_file:
        fcntl.flock(permit_file, fcntl.LOCK_EX)
        for _ in range(3):
            with pytest.raises(ServiceUnavailable):
                password_hashing.hash("abcd1234")
    assert password_hashing.hash("abcd1234")
