"""What an account's coins did: the balance, the records, a host's ranking."""

from typing import Any

import pytest

from livebackend.container import Services
from tests.support.api import PASSWORD, Api, Person, at_once
from tests.support.database_state import DatabaseState

REFUSED = {"result": "0013", "message": "update failed"}


def balance(person: Person, path: str = "/golden") -> int:
    answer = person.post(path, balance="1")
    assert answer.result == "0000", answer
    assert answer.message.keys() == {"coins"}
    return int(answer.message["coins"])


def page(person: Person, **params: str) -> tuple[list[dict[str, Any]], str | None]:
    answer = person.post("/golden", records="1", **params)
    assert answer.result == "0000", answer
    assert answer.message.keys() == {"records", "before"}
    return answer.message["records"], answer.message["before"]


def all_pages(person: Person, limit: int) -> list[dict[str, Any]]:
    found, before = page(person, limit=str(limit))
    for _ in range(100):
        if before is None:
            return found
        more, before = page(person, limit=str(limit), before=before)
        assert 1 <= len(more) <= limit
        found += more
    raise AssertionError("the pages do not end")


class TestBalance:
    @pytest.mark.parametrize("path", ["/golden", "/friend"])
    def test_it_is_what_one_has(self, path: str, ann: Person, ben: Person) -> None:
        assert balance(ann, path) == 0
        ann.refill("100")
        ann.give(ben, "30")
        assert (balance(ann, path), balance(ben, path)) == (70, 30)

    def test_it_changes_nothing(self, ann: Person, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            balance(ann)


class TestRecords:
    def test_nothing_happened_yet(self, ann: Person) -> None:
        assert page(ann) == ([], None)

    def test_each_side_sees_a_gift_with_the_other_one(self, ann: Person, ben: Person) -> None:
        ann.refill("100")
        ann.give(ben, "30", description="一朵玫瑰")
        mine, _ = page(ann)
        assert [each.pop("time")[-1] for each in mine] == ["Z", "Z"]
        gift, refill = mine
        assert gift.pop("id") > refill.pop("id")
        assert gift == {
            "kind": "gift",
            "coins": -30,
            "left": 70,
            "nickname": "Ben",
            "description": "一朵玫瑰",
        }
        assert refill == {
            "kind": "refill",
            "coins": 100,
            "left": 100,
            "nickname": None,
            "description": None,
        }
        (theirs,), _ = page(ben)
        assert (theirs["coins"], theirs["left"]) == (30, 30)
        assert (theirs["nickname"], theirs["description"]) == ("Ann", "一朵玫瑰")

    def test_nobodys_phone_is_in_it(self, ann: Person, ben: Person) -> None:
        ann.refill("10")
        ann.give(ben, "1")
        answer = ben.post("/golden", records="1")
        assert ann.phone not in str(answer.body)

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    def test_pages_are_the_whole_history_each_with_what_it_left(
        self, limit: int, ann: Person, ben: Person, cat: Person
    ) -> None:
        people = [ann, ben, cat]
        for person in people:
            person.refill("50")
        for n in range(12):
            people[n % 3].give(people[(n + 1 + n % 2) % 3], str(1 + n % 5))
        for person in people:
            found = all_pages(person, limit)
            ids = [each["id"] for each in found]
            assert ids == sorted(set(ids), reverse=True)
            assert found[0]["left"] == balance(person)
            left = 0
            for each in reversed(found):
                left += each["coins"]
                assert each["left"] == left >= 0

    def test_what_comes_meanwhile_does_not_shift_the_pages(self, ann: Person, ben: Person) -> None:
        ann.refill("50")
        for n in range(1, 6):
            ann.give(ben, str(n))
        first, before = page(ann, limit="3")
        ann.give(ben, "7")
        ann.refill("10")
        second, end = page(ann, limit="3", before=str(before))
        assert end is None
        assert [each["coins"] for each in first + second] == [-5, -4, -3, -2, -1, 50]
        assert [each["left"] for each in first + second] == [35, 40, 44, 47, 49, 50]

    def test_a_page_has_100_at_most(self, ann: Person, ben: Person) -> None:
        ann.refill("100")
        ann.refill("10")
        at_once(*[lambda: [ann.give(ben, "1") for _ in range(11)]] * 10)
        found, before = page(ann)
        assert len(found) == 100
        assert before

    @pytest.mark.parametrize(
        "changed",
        [
            *[{"limit": value} for value in ("0", "101", "-1", "1.5", "１", "010", "x", "1元")],
            *[{"before": value} for value in ("1", "-1", "1-", "1-2-3", "x-1", "１-1", "9" * 40)],
        ],
    )
    def test_a_faulty_parameter_is_0013(
        self, changed: dict[str, str], ann: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = ann.post("/golden", records="1", **changed)
        assert (answer.status, answer.body) == (200, REFUSED)

    def test_the_largest_place(self, ann: Person) -> None:
        assert page(ann, before="9" * 18 + "-" + "9" * 18) == ([], None)

    def test_somebody_who_removed_his_account_has_no_name(self, ann: Person, ben: Person) -> None:
        ann.refill("10")
        ann.give(ben, "1")
        assert ann.post("/register", remove="1", password=PASSWORD).result == "0000"
        (record,), _ = page(ben)
        assert (record["nickname"], record["description"]) == (None, "a rose")


class TestRanking:
    def ranking(self, person: Person, host: Person) -> list[tuple[str | None, int]]:
        answer = person.post("/golden", ranking="1", object=host.phone)
        assert answer.result == "0000", answer
        for giver in answer.message:
            assert giver.keys() == {"nickname", "headImage", "coins"}
        return [(giver["nickname"], giver["coins"]) for giver in answer.message]

    def test_who_gave_most_stands_first(self, ann: Person, ben: Person, cat: Person) -> None:
        for person in (ann, ben):
            person.refill("100")
        ann.give(cat, "10")
        ben.give(cat, "40")
        ann.give(cat, "20")
        assert self.ranking(ann, cat) == [("Ben", 40), ("Ann", 30)]
        assert self.ranking(cat, ann) == []

    def test_refills_are_no_gifts(self, ann: Person) -> None:
        ann.refill("100")
        assert self.ranking(ann, ann) == []

    def test_a_reversed_gift_does_not_count(
        self, ann: Person, ben: Person, services: Services, database_state: DatabaseState
    ) -> None:
        ann.refill("100")
        ann.give(ben, "10")
        ann.give(ben, "20")
        gift = next(row for row in database_state.rows("transfers") if row["amount"] == 20)
        services.reversals.reverse(gift["id"], reason="by mistake")
        assert self.ranking(ann, ben) == [("Ann", 10)]
        assert page(ann)[0][0]["kind"] == "reversal"

    def test_it_has_20_places(self, api: Api, ann: Person) -> None:
        for n in range(21):
            giver = api.person(f"138000001{n:02d}", nickname=f"giver {n}")
            giver.refill("50")
            giver.give(ann, str(n + 1))
        ranking = self.ranking(ann, ann)
        assert ranking == [(f"giver {n}", n + 1) for n in range(20, 0, -1)]

    @pytest.mark.parametrize("phone", ["", "13800000077", "1"])
    def test_an_unknown_host_is_0013(self, phone: str, ann: Person) -> None:
        answer = ann.post("/golden", ranking="1", object=phone)
        assert (answer.status, answer.body) == (200, REFUSED)
