"""Password hashes, and the concurrency limit of hashing."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from livebackend.core.errors import ServiceUnavailable
from livebackend.services.password_hashing import MachineSemaphore, PasswordHasher, PasswordHashing
from tests.support.api import run_concurrently


def new_hasher(pepper: str = "p" * 32) -> PasswordHasher:
    return PasswordHasher(pepper, cost=4)


@pytest.fixture
def new_password_hashing(tmp_path: Path) -> Callable[..., PasswordHashing]:
    def create(
        permits: int = 1, queue_timeout_s: float = 0.05, max_callers: int = 20
    ) -> PasswordHashing:
        return PasswordHashing(
            new_hasher(),
            MachineSemaphore(tmp_path, permits),
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


def hold_semaphore(folder: Path, is_held: Any) -> None:
    with MachineSemaphore(folder, 1).acquire(0):
        is_held.set()
        time.sleep(60)


@pytest.mark.processes
def test_killed_process_releases_the_semaphore(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    is_held = context.Event()
    process = context.Process(target=hold_semaphore, args=(tmp_path, is_held))
    process.start()
    assert is_held.wait(30)
    process.kill()
    process.join()
    with MachineSemaphore(tmp_path, 1).acquire(0):
        pass
