"""Accounts that are opened with what they may not have, and logged into by a crowd."""

from collections.abc import Callable
from functools import partial

import pytest

from livebackend.services.password_hashing import Hasher
from tests.support.api import PASSWORD, Api, App, Person, Phone, at_once, results
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.pictures import PNG, upload


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that cost a hash."""
    seen: list[str] = []
    make = Hasher.hash

    def watched(self: Hasher, password: str) -> str:
        seen.append(password)
        return make(self, password)

    monkeypatch.setattr(Hasher, "hash", watched)
    return seen


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"password": ""}, id="no password"),
        pytest.param({"password": "abcd123"}, id="seven characters"),
        pytest.param({"password": "abcdefgh"}, id="letters only"),
        pytest.param({"password": "90718253"}, id="digits only"),
        pytest.param({"password": "пароль１２３"}, id="digits of another script only"),
        pytest.param({"password": "a1" * 64 + "b"}, id="a password of 129 characters"),
        pytest.param({"password": "a1" * 30_000}, id="a password of 60 kB"),
        pytest.param({"password": "harbour\0-42"}, id="a password with NUL"),
        pytest.param({"password": "a1234567"}, id="a password that everybody has"),
        pytest.param({"password": "13800000001a"}, id="one's phone for a password"),
        pytest.param({"nickname": "   "}, id="a blank name"),
        pytest.param({"gender": "2"}, id="no gender"),
        pytest.param({"userId": "13800000002"}, id="another's phone"),
    ],
)
def test_a_faulty_account_is_not_opened_and_costs_no_hash(
    changed: dict[str, str],
    phone_of_ann: Phone,
    hashed: list[str],
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    phone_of_ann.verify()
    account = {"register": "1", "userId": phone_of_ann.number, "password": PASSWORD}
    with assert_no_side_effects():
        answer = phone_of_ann.post("/register", **{**account, **changed})
    assert (answer.status, answer.body) == (200, {"result": "0006", "message": None})
    assert hashed == []
    assert phone_of_ann.post("/register", **account).result == "0000"


@pytest.mark.parametrize(
    "picture",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "http://evil.example/a.png",
        "javascript:alert(1)",
        "data:image/png;base64,x",
        "' OR 1=1--",
        "HIS",
        "HIS/..",
        "MINE?",
        "MINE#x",
        " MINE",
    ],
)
def test_a_picture_that_is_not_ones_own_is_no_avatar(
    picture: str,
    api: Api,
    phone_of_ann: Phone,
    phone_of_ben: Phone,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    mine, his = upload(api, PNG).message, upload(api, PNG).message
    phone_of_ben.register(headImage=his)
    phone_of_ann.verify()
    account = {"register": "1", "userId": phone_of_ann.number, "password": PASSWORD}
    location = picture.replace("HIS", his).replace("MINE", mine)
    with assert_no_side_effects():
        answer = phone_of_ann.post("/register", **account, headImage=location)
    assert (answer.result, answer.refusal) == ("0006", "headImage is unknown")
    assert phone_of_ann.post("/register", **account, headImage=mine).result == "0000"


def test_nobody_gives_himself_what_was_not_asked(
    phone_of_ann: Phone, ben: Person, database_state: DatabaseState
) -> None:
    more = {"coins": "1000", "id": "1", "token_version": "9", "is_admin": "1", "nickname": "Ben"}
    ann = phone_of_ann.register(**more)
    own = {"id", "phone", "password_hash", "created_at"}
    of_ben, of_ann = (
        {name: value for name, value in row.items() if name not in own}
        for row in database_state.rows("accounts")
    )
    assert of_ann == of_ben
    assert database_state.coins(ann) == 0


def test_a_damaged_hash_is_a_wrong_password_and_a_line_in_the_log(
    ann: Person,
    ben: Person,
    api: Api,
    database_state: DatabaseState,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for damaged in ("", "x", "$2b$12$short", "$2b$99$" + "." * 53):
        database_state.execute(
            f"UPDATE accounts SET password_hash = '{damaged}' WHERE phone = '{ann.phone}'"
        )
        caplog.clear()
        answer = api.post("/log", userId=ann.phone, password=PASSWORD)
        assert (answer.status, answer.body) == (200, {"result": "0008", "message": None})
        assert [record.levelname for record in caplog.records] == ["ERROR"] * (damaged != "")
    assert api.log_in(ben.phone).friends() == ann.friends() == []


@pytest.fixture
def crowded(new_hardened_app: Callable[..., App]) -> App:
    """Where one password is hashed at a time, and there is one connection."""
    return new_hardened_app(
        passwords__at_once="1", passwords__wait_s="0.5", database__connections="1"
    )


def test_logins_that_wait_for_their_turn_hold_no_connection(crowded: App, ann: Person) -> None:
    log_in = partial(Api(crowded).post, "/log", userId=ann.phone, password=PASSWORD)
    friendlist = partial(Api(crowded).post, "/list", friendlist="1", token=ann.token)
    with crowded.registry.services.password_hashing.turn():
        answers = at_once(*[log_in] * 10, *[friendlist] * 2)
    assert [(answer.status, answer.result) for answer in answers] == [
        *[(503, "0008")] * 10,
        *[(200, "0000")] * 2,
    ]
    assert log_in().result == "0000"


def test_a_hundred_logins_at_once_are_each_answered(
    new_hardened_app: Callable[..., App], ann: Person
) -> None:
    app = new_hardened_app(passwords__at_once="1", passwords__wait_s="1")
    log_in = partial(Api(app).post, "/log", userId=ann.phone, password=PASSWORD)
    answers = at_once(*[log_in] * 100)
    assert {(answer.status, answer.result) for answer in answers} <= {(200, "0000"), (503, "0008")}
    assert "0000" in results(answers)
    assert log_in().result == "0000"
