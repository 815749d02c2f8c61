"""Password hashes."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from livebackend.core.errors import Unavailable
from livebackend.services.password_hashing import Hasher, Passwords, Slots
from tests.support.api import at_once as all_at_once


def hasher(pepper: str = "p" * 32) -> Hasher:
    return Hasher(pepper, cost=4)


@pytest.fixture
def new_passwords(tmp_path: Path) -> Callable[..., Passwords]:
    def make(at_once: int = 1, wait_s: float = 0.05, callers_max: int = 20) -> Passwords:
        slots = Slots(tmp_path, at_once)
        return Passwords(
            hasher(), slots, callers_max=callers_max, wait_s=wait_s, common_refused=True
        )

    return make


def test_a_password_matches_its_hash_alone() -> None:
    known = hasher().hash("abcd1234")
    assert hasher().match("abcd1234", known)
    assert not hasher().match("abcd1235", known)


def test_the_pepper_is_part_of_it() -> None:
    assert not hasher("q" * 32).match("abcd1234", hasher().hash("abcd1234"))


def test_equal_passwords_have_different_hashes() -> None:
    assert hasher().hash("abcd1234") != hasher().hash("abcd1234")


@pytest.mark.parametrize("password", ["a" * 72 + "1", "a\0b", "密" * 128, ""])
def test_every_character_counts(password: str) -> None:
    # bcrypt itself reads 72 bytes, and up to a NUL.
    known = hasher().hash(password)
    assert hasher().match(password, known)
    assert not hasher().match(password + "x", known)
    assert len(known) == 60


def test_nobodys_password_is_checked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    check = bcrypt.checkpw

    def seen(password: bytes, known: bytes) -> bool:
        costs.append(known[:7])
        return check(password, known)

    monkeypatch.setattr(bcrypt, "checkpw", seen)
    assert not hasher().match("abcd1234", None)
    assert not hasher().match("abcd1234", hasher().hash("other1234"))
    assert costs[0] == costs[1] == b"$2b$04$"


def test_a_damaged_hash_matches_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert not hasher().match("abcd1234", "nonsense")
    assert "a password's hash is damaged" in caplog.text


@pytest.mark.parametrize("processes", [1, 3])
def test_no_more_run_at_once_than_said(
    processes: int, new_passwords: Callable[..., Passwords]
) -> None:
    # Processes have nothing in common but the folder: nor have these.
    all_turns = [new_passwords(at_once=2, wait_s=5) for _ in range(processes)]
    running, most, lock = 0, 0, threading.Lock()

    def work(turns: Passwords) -> None:
        nonlocal running, most
        with turns.turn():
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work, args=(turns,)) for turns in all_turns * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_who_waits_too_long_is_sent_away_and_takes_no_turn(
    new_passwords: Callable[..., Passwords],
) -> None:
    turns = new_passwords()
    with turns.turn(), pytest.raises(Unavailable):
        turns.hash("abcd1234")
    assert turns.hash("abcd1234")


def test_no_more_wait_than_said(new_passwords: Callable[..., Passwords]) -> None:
    turns = new_passwords(wait_s=5, callers_max=3)
    hashed, sent_away = [], []

    def work() -> None:
        try:
            hashed.append(turns.hash("abcd1234"))
        except Unavailable:
            sent_away.append(True)

    with turns.turn():
        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(sent_away) < 3:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert (len(hashed), len(sent_away)) == (2, 3)
    assert turns.hash("abcd1234")


def test_a_stop_sends_away_all_who_wait(new_passwords: Callable[..., Passwords]) -> None:
    turns = new_passwords(wait_s=30)

    def work() -> None:
        with pytest.raises(Unavailable):
            turns.hash("abcd1234")

    with turns.turn():
        all_at_once(*[work] * 5, turns.stop)
        work()  # and all who come later


def hold(folder: Path, held: Any) -> None:
    with Slots(folder, 1).held(0):
        held.set()
        time.sleep(60)


@pytest.mark.processes
def test_a_killed_process_gives_its_slot_back(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(30)
    process.kill()
    process.join()
    with Slots(tmp_path, 1).held(0):
        pass
