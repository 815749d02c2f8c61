"""Password hashes."""

import threading
import time

import bcrypt
import pytest

from livebackend.results import Unavailable
from livebackend.services.passwords import Hasher, Passwords


def hasher(pepper: str = "p" * 32) -> Hasher:
    return Hasher(pepper, cost=4)


def passwords(*, at_once: int = 1, wait_s: float = 0.05) -> Passwords:
    return Passwords(hasher(), at_once=at_once, common_refused=True, wait_s=wait_s)


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


def test_no_more_run_at_once_than_said() -> None:
    turns = passwords(at_once=2, wait_s=5)
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with turns.turn():
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_who_waits_too_long_is_sent_away_and_takes_noturn() -> None:
    turns = passwords()
    with turns.turn(), pytest.raises(Unavailable):
        turns.hash("abcd1234")
    assert turns.hash("abcd1234")
