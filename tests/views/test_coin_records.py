"""Tests of the coin balance, the transfer records and the gift ranking of a host."""

from typing import Any

import pytest

from livebackend.container import Services
from tests.support.api import PASSWORD, ApiClient, UserClient, run_concurrently
from tests.support.database_state import DatabaseState

COINS_NOT_UPDATED = {"result": "0013", "message": "update failed"}


def balance(user: UserClient, path: str = "/golden") -> int:
    response = user.post(path, balance="1")
    assert response.result == "0000", response
    assert response.message.keys() == {"coins"}
    return int(response.message["coins"])


def record_page(user: UserClient, **params: str) -> tuple[list[dict[str, Any]], str | None]:
    response = user.post("/golden", records="1", **params)
    assert response.result == "0000", response
    assert response.message.keys() == {"records", "before"}
    return response.message["records"], response.message["before"]


def all_records(user: UserClient, limit: int) -> list[dict[str, Any]]:
    records, before = record_page(user, limit=str(limit))
    for _ in range(100):
        if before is None:
            return records
        next_page, before = record_page(user, limit=str(limit), before=before)
        assert 1 <= len(next_page) <= limit
        records += next_page
    raise AssertionError("record pages: more than 100 pages")


class TestBalance:
    @pytest.mark.parametrize("path", ["/golden", "/friend"])
    def test_balance_is_the_sum_of_refills_and_gifts(
        self, path: str, ann: UserClient, ben: UserClient
    ) -> None:
        assert balance(ann, path) == 0
        ann.refill("100")
        ann.send_gift(ben, "30")
        assert (balance(ann, path), balance(ben, path)) == (70, 30)

    def test_balance_request_changes_nothing(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            balance(ann)


class TestRecords:
    def test_records_of_a_new_account_are_empty(self, ann: UserClient) -> None:
        assert record_page(ann) == ([], None)

    def test_records_show_a_gift_to_both_users_with_the_nickname_of_the_other_user(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.refill("100")
        ann.send_gift(ben, "30", description="一朵玫瑰")
        records_of_ann, _ = record_page(ann)
        assert [record.pop("time")[-1] for record in records_of_ann] == ["Z", "Z"]
        gift, refill = records_of_ann
        assert gift.pop("id") > refill.pop("id")
        ben_profile = ben.post("/register", profile="1").message
        assert gift == {
            "kind": "gift",
            "coins": -30,
            "left": 70,
            "publicId": ben_profile["publicId"],
            "nickname": "Ben",
            "description": "一朵玫瑰",
        }
        assert refill == {
            "kind": "refill",
            "coins": 100,
            "left": 100,
            "publicId": None,
            "nickname": None,
            "description": None,
        }
        (record_of_ben,), _ = record_page(ben)
        assert (record_of_ben["coins"], record_of_ben["left"]) == (30, 30)
        assert (record_of_ben["nickname"], record_of_ben["description"]) == ("Ann", "一朵玫瑰")

    def test_records_hide_the_texts_of_a_blocked_user_but_not_the_coins(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ben.refill("10")
        ben.send_gift(ann, "1", description="an insult")
        ann.post("/friend", block="1", userId=ben.phone)
        assert ben.send_gift(ann, "2", description="another insult").result == "0000"
        ann.send_gift(ben, "1", description="my own text")
        records, _ = record_page(ann)
        shown_texts = [
            (record["coins"], record["nickname"], record["description"]) for record in records
        ]
        assert shown_texts == [(-1, "Ben", "my own text"), (2, None, None), (1, None, None)]
        # The blocked user does not notice the block.
        records_of_ben, _ = record_page(ben)
        assert [record["description"] for record in records_of_ben] == [
            "my own text",
            "another insult",
            "an insult",
            None,
        ]
        ann.post("/friend", unblock="1", userId=ben.phone)
        records, _ = record_page(ann)
        assert records[1]["description"] == "another insult"

    def test_records_contain_no_phone_of_the_other_user(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.refill("10")
        ann.send_gift(ben, "1")
        response = ben.post("/golden", records="1")
        assert ann.phone not in str(response.body)

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    def test_record_pages_cover_the_full_history_with_running_balances(
        self, limit: int, ann: UserClient, ben: UserClient, cat: UserClient
    ) -> None:
        users = [ann, ben, cat]
        for user in users:
            user.refill("50")
        for n in range(12):
            users[n % 3].send_gift(users[(n + 1 + n % 2) % 3], str(1 + n % 5))
        for user in users:
            records = all_records(user, limit)
            record_ids = [record["id"] for record in records]
            assert record_ids == sorted(set(record_ids), reverse=True)
            assert records[0]["left"] == balance(user)
            running_balance = 0
            for record in reversed(records):
                running_balance += record["coins"]
                assert record["left"] == running_balance >= 0

    def test_record_pages_do_not_shift_when_transfers_are_added(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.refill("50")
        for n in range(1, 6):
            ann.send_gift(ben, str(n))
        first_page, before = record_page(ann, limit="3")
        ann.send_gift(ben, "7")
        ann.refill("10")
        second_page, next_cursor = record_page(ann, limit="3", before=str(before))
        assert next_cursor is None
        records = first_page + second_page
        assert [record["coins"] for record in records] == [-5, -4, -3, -2, -1, 50]
        assert [record["left"] for record in records] == [35, 40, 44, 47, 49, 50]

    def test_record_page_has_at_most_100_records(self, ann: UserClient, ben: UserClient) -> None:
        ann.refill("100")
        ann.refill("10")
        run_concurrently(*[lambda: [ann.send_gift(ben, "1") for _ in range(11)]] * 10)
        records, before = record_page(ann)
        assert len(records) == 100
        assert before

    @pytest.mark.parametrize(
        "changed_parameters",
        [
            *[{"limit": value} for value in ("0", "101", "-1", "1.5", "１", "010", "x", "1元")],
            *[{"before": value} for value in ("1", "-1", "1-", "1-2-3", "x-1", "１-1", "9" * 40)],
        ],
    )
    def test_records_request_with_an_invalid_parameter_returns_0013(
        self, changed_parameters: dict[str, str], ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = ann.post("/golden", records="1", **changed_parameters)
        assert (response.status, response.body) == (200, COINS_NOT_UPDATED)

    def test_records_request_accepts_the_largest_cursor(self, ann: UserClient) -> None:
        assert record_page(ann, before="9" * 18 + "-" + "9" * 18) == ([], None)

    def test_records_show_no_nickname_for_a_removed_account(
        self, ann: UserClient, ben: UserClient
    ) -> None:
        ann.refill("10")
        ann.send_gift(ben, "1")
        assert ann.post("/register", remove="1", password=PASSWORD).result == "0000"
        (record,), _ = record_page(ben)
        assert (record["nickname"], record["description"]) == (None, "a rose")


class TestRanking:
    def ranking(self, user: UserClient, host: UserClient) -> list[tuple[str | None, int]]:
        response = user.post("/golden", ranking="1", object=host.phone)
        assert response.result == "0000", response
        for giver in response.message:
            assert giver.keys() == {"publicId", "nickname", "headImage", "coins"}
        return [(giver["nickname"], giver["coins"]) for giver in response.message]

    def test_ranking_orders_givers_by_the_total_of_their_gifts(
        self, ann: UserClient, ben: UserClient, cat: UserClient
    ) -> None:
        for user in (ann, ben):
            user.refill("100")
        ann.send_gift(cat, "10")
        ben.send_gift(cat, "40")
        ann.send_gift(cat, "20")
        assert self.ranking(ann, cat) == [("Ben", 40), ("Ann", 30)]
        assert self.ranking(cat, ann) == []

    def test_ranking_excludes_refills(self, ann: UserClient) -> None:
        ann.refill("100")
        assert self.ranking(ann, ann) == []

    def test_ranking_excludes_reversed_gifts(
        self, ann: UserClient, ben: UserClient, services: Services, database_state: DatabaseState
    ) -> None:
        ann.refill("100")
        ann.send_gift(ben, "10")
        ann.send_gift(ben, "20")
        gift = next(row for row in database_state.rows("transfers") if row["amount"] == 20)
        services.reversals.reverse(gift["id"], reason="by mistake")
        assert self.ranking(ann, ben) == [("Ann", 10)]
        assert record_page(ann)[0][0]["kind"] == "reversal"

    def test_ranking_lists_at_most_20_givers(self, api: ApiClient, ann: UserClient) -> None:
        for n in range(21):
            giver = api.register_user(f"138000001{n:02d}", nickname=f"giver {n}")
            giver.refill("50")
            giver.send_gift(ann, str(n + 1))
        ranking = self.ranking(ann, ann)
        assert ranking == [(f"giver {n}", n + 1) for n in range(20, 0, -1)]

    @pytest.mark.parametrize("phone", ["", "13800000077", "1"])
    def test_ranking_of_an_unknown_host_returns_0013(self, phone: str, ann: UserClient) -> None:
        response = ann.post("/golden", ranking="1", object=phone)
        assert (response.status, response.body) == (200, COINS_NOT_UPDATED)
