"""Whoever guesses passwords is slowed down, and nobody else."""

from collections.abc import Callable
from functools import partial

import pytest

from livebackend.services.password_hashing import Hasher
from tests.support.api import PASSWORD, Answer, Api, App, Person, at_once, results
from tests.support.database_state import DatabaseState

HERE, ELSEWHERE = "203.0.113.7", "198.51.100.1"
WRONG = {"result": "0008", "message": None}


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    return new_app(
        limits__login_account="10 per 5 minutes; 12 per hour",
        limits__login_address="15 per hour",
        passwords__at_once="1",
        passwords__wait_s="3",
    )


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were compared, as they are."""
    seen = []
    match = Hasher.match

    def counted(self: Hasher, password: str, password_hash: str | None) -> bool:
        seen.append(password)
        return match(self, password, password_hash)

    monkeypatch.setattr(Hasher, "match", counted)
    return seen


def log_in(api: Api, phone: str, password: str = PASSWORD, address: str = HERE) -> Answer:
    form = {"userId": phone, "password": password}
    return api.send("/log", form, extra_environ={"REMOTE_ADDR": address})


def test_after_ten_failures_even_the_right_one_is_wrong_from_there(
    ann: Person, api: Api, hashed: list[str]
) -> None:
    wrong = [log_in(api, ann.phone, f"wrong-{n}") for n in range(10)]
    hashed.clear()
    locked_out = log_in(api, ann.phone)
    assert locked_out.body == WRONG
    # With no word of the lock, and without a hash.
    assert locked_out.headers.keys() == wrong[0].headers.keys()
    assert locked_out.refusal == wrong[0].refusal == "password is wrong"
    assert hashed == []


def test_its_owner_gets_in_from_elsewhere(ann: Person, api: Api) -> None:
    for n in range(11):
        log_in(api, ann.phone, f"wrong-{n}")
    assert log_in(api, ann.phone).result == "0008"
    assert log_in(api, ann.phone, address=ELSEWHERE).result == "0000"


def test_the_waits_grow(
    ann: Person, api: Api, database_state: DatabaseState, hashed: list[str]
) -> None:
    def five_minutes_pass() -> None:
        database_state.execute("DELETE FROM rate_limit_windows WHERE key LIKE '%/10/5/minute'")

    for n in range(11):
        log_in(api, ann.phone, f"wrong-{n}")
    five_minutes_pass()
    for n in range(3):
        log_in(api, ann.phone, f"wrong-{n}")
    assert len(hashed) == 12
    five_minutes_pass()
    assert log_in(api, ann.phone).result == "0008"


def test_a_success_counts_nothing(ann: Person, api: Api, database_state: DatabaseState) -> None:
    database_state.execute("DELETE FROM rate_limit_windows")
    for _ in range(20):
        assert log_in(api, ann.phone).result == "0000"
    assert database_state.rows("rate_limit_windows") == []


def test_an_address_that_tries_many_accounts_is_slowed_down(
    ann: Person, api: Api, hashed: list[str]
) -> None:
    for n in range(15):
        assert log_in(api, f"138000001{n:02}").result == "0007"
    hashed.clear()
    assert log_in(api, ann.phone).body == WRONG
    assert log_in(api, "13800000177").body == WRONG
    assert hashed == []
    assert log_in(api, ann.phone, address=ELSEWHERE).result == "0000"


def test_of_a_crowd_of_guesses_no_more_are_compared(
    ann: Person, api: Api, hashed: list[str]
) -> None:
    hashed.clear()
    guesses = [partial(log_in, api, ann.phone, f"wrong-{n}") for n in range(30)]
    assert results(at_once(*guesses)) == ["0008"] * 30
    assert len(hashed) == 10


def test_a_crowd_with_the_right_one_gets_in(ann: Person, api: Api) -> None:
    assert results(at_once(*[partial(log_in, api, ann.phone)] * 20)) == ["0000"] * 20


def test_asking_for_the_password_again_counts_too(ann: Person, api: Api) -> None:
    for n in range(10):
        ann.post("/register", remove="1", password=f"wrong-{n}")
    assert ann.post("/register", remove="1", password=PASSWORD).result == "0008"


def test_a_cheap_hash_is_replaced_at_the_next_login(
    new_app: Callable[..., App], ann: Person, database_state: DatabaseState
) -> None:
    (before,) = database_state.rows("accounts")
    costly = Api(new_app(passwords__cost="5"))
    assert log_in(costly, ann.phone, "wrong-1").result == "0008"
    assert database_state.rows("accounts") == [before]
    assert log_in(costly, ann.phone).result == "0000"
    (after,) = database_state.rows("accounts")
    assert before["password_hash"].startswith("$2b$04$")
    assert after["password_hash"].startswith("$2b$05$")
    # The tokens of before are as good as ever.
    assert {**after, "password_hash": ""} == {**before, "password_hash": ""}
    assert log_in(costly, ann.phone).result == "0000"
    assert database_state.rows("accounts") == [after]
