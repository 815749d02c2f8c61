"""`livebackend user`: what an operator does to an account, and what its owner notices."""

import re

import pytest

from tests.support.api import Api, Person
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState

VERBS = ("show", "disable", "enable", "revoke", "reset-password")


def test_show_shows_all_of_one_account(operator: Operator, ann: Person, ben: Person) -> None:
    ann.befriend(ben)
    ann.refill("50")
    ann.live(title="hello")
    shown = operator.reads("user show", ann.phone)
    assert shown["phone"] == ann.phone
    assert (shown["nickname"], shown["friends"], shown["coins"]) == ("Ann", 1, 50)
    assert shown["room_id"] is not None
    assert shown["disabled_at"] is None
    words = operator.runs("user show", ann.phone).stdout
    assert re.search(rf"^phone +{ann.phone}$", words, re.MULTILINE)
    assert re.search(r"^coins +50$", words, re.MULTILINE)


def test_a_disabled_account_is_out_at_once_and_stays_out(
    operator: Operator, api: Api, ann: Person, ben: Person, database_state: DatabaseState
) -> None:
    ann.befriend(ben)
    ann.live()
    done = operator.reads("user disable", ann.phone)
    assert done["changed"] is True
    assert ann.post("/list", friendlist="1").result == "0012"
    assert api.post("/log", userId=ann.phone, password="harbour-42").result == "0008"
    assert ben.friends()[0]["liveStatus"] == "off"
    (room,) = database_state.rows("rooms")
    assert (room["id"], room["close_reason"]) == (done["closed_room"], "operator")
    assert operator.reads("user disable", ann.phone)["changed"] is False


def test_an_enabled_account_logs_in_and_its_old_tokens_stay_ended(
    operator: Operator, api: Api, ann: Person
) -> None:
    assert operator.reads("user enable", ann.phone)["changed"] is False
    operator.runs("user disable", ann.phone)
    assert operator.reads("user enable", ann.phone)["changed"] is True
    assert ann.post("/list", friendlist="1").result == "0012"
    assert api.log_in(ann.phone).friends() == []


def test_revoke_ends_every_token_and_no_password(operator: Operator, api: Api, ann: Person) -> None:
    other = api.log_in(ann.phone)
    operator.runs("user revoke", ann.phone)
    assert {each.post("/list", friendlist="1").result for each in (ann, other)} == {"0012"}
    assert api.log_in(ann.phone).friends() == []


def test_a_reset_password_is_printed_once_and_is_the_only_one(
    operator: Operator, api: Api, ann: Person
) -> None:
    password = operator.reads("user reset-password", ann.phone)["password"]
    assert re.fullmatch("[a-z]{4}-[a-z]{4}-[a-z]{4}-[2-9]{2}", password)
    assert ann.post("/list", friendlist="1").result == "0012"
    assert api.post("/log", userId=ann.phone, password="harbour-42").result == "0008"
    answer = api.post("/log", userId=ann.phone, password=password)
    assert answer.result == "0000"
    changed = api.post(
        "/log", change="1", token=answer.message, oldPassword=password, password="harbour-43"
    )
    assert changed.result == "0000"


@pytest.mark.parametrize("verb", VERBS)
def test_nobodys_phone_is_a_finding_and_changes_nothing(
    verb: str, operator: Operator, ann: Person, database_state: DatabaseState
) -> None:
    with database_state.unchanged():
        done = operator.runs(f"user {verb}", "13800000009", code=1)
        assert done.stderr.endswith("Error: nobody is registered with that phone\n")
        told = operator.reads(f"user {verb}", "13800000009", code=1)
    assert told == {"error": "nobody is registered with that phone"}


@pytest.mark.parametrize(
    "phone", ["1380000000", "+8613800000001", "１３８００００００１", "ann", ""]
)
def test_what_is_no_phone_is_a_wrong_call(phone: str, operator: Operator) -> None:
    assert "eleven digits" in operator.runs("user show", phone, code=2).stderr


def test_what_is_logged_names_nobody(operator: Operator, ann: Person) -> None:
    log = operator.runs("user revoke", ann.phone).stderr
    assert re.search(r"account \d+: login tokens revoked by an operator", log)
    assert ann.phone not in log
    assert "138****" not in log
