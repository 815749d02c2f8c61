"""Buying coins and giving them."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from livebackend.container import Services
from livebackend.core.errors import Unavailable
from livebackend.database.engine import Database
from livebackend.ledger.batch_writer import LedgerWriter
from livebackend.ledger.transfers import Transfer
from livebackend.models import SLOT_COINS_MAX
from livebackend.services.gifts import Gifts
from tests.support.api import PASSWORD, Answer, Api, App, Person, at_once
from tests.support.application import replace_services
from tests.support.database_state import DatabaseState

REFUSED = {"result": "0013", "message": "update failed"}
NOBODY = "13800000077"


class TestRefill:
    @pytest.mark.parametrize("path", ["/golden", "/friend"])
    @pytest.mark.parametrize("money", ["10", "50", "100", "10元", "100元"])
    def test_one_yuan_buys_one_coin(
        self, money: str, path: str, ann: Person, database_state: DatabaseState
    ) -> None:
        answer = ann.post(path, refill="1", money=money)
        assert answer.body == {"result": "0000", "message": None}
        assert database_state.coins(ann) == int(money.removesuffix("元"))

    @pytest.mark.parametrize(
        "money",
        ["", "0", "1", "20", "-10", "+10", "010", "10.0", "1e1", "１０", "10元元", "元", "10 ",
         "10\0", "9" * 5000],
    )  # fmt: skip
    def test_any_other_amount_is_0013(
        self, money: str, ann: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = ann.refill(money)
        assert (answer.status, answer.body) == (200, REFUSED)

    def test_a_missing_amount_is_0013(self, ann: Person, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            assert ann.post("/golden", refill="1").body == REFUSED

    def test_without_a_request_id_each_call_counts(
        self, ann: Person, database_state: DatabaseState
    ) -> None:
        assert ann.refill("10").result == ann.refill("10").result == "0000"
        assert database_state.coins(ann) == 20

    def test_a_repeated_request_is_answered_and_moves_nothing(
        self, ann: Person, database_state: DatabaseState
    ) -> None:
        first = ann.refill("10", requestId="a-1")
        with database_state.unchanged():
            # The parsed values count.
            again = ann.refill("10元", requestId="a-1")
        assert first.body == again.body == {"result": "0000", "message": None}

    def test_a_request_id_with_another_content_is_0013(
        self, ann: Person, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="a-1")
        with database_state.unchanged():
            answer = ann.refill("50", requestId="a-1")
        assert answer.body == REFUSED
        assert answer.refusal == "requestId was used for another content"

    def test_a_request_id_is_ones_own(
        self, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="a-1")
        assert ben.refill("50", requestId="a-1").result == "0000"
        assert (database_state.coins(ann), database_state.coins(ben)) == (10, 50)

    @pytest.mark.parametrize("request_id", ["x" * 65, "a b", "a/b", "令", "a\n", "é"])
    def test_a_malformed_request_id_is_0013(
        self, request_id: str, ann: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            assert ann.refill("10", requestId=request_id).body == REFUSED

    def test_an_empty_request_id_is_an_absent_one(
        self, ann: Person, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="")
        ann.refill("10", requestId="")
        assert database_state.coins(ann) == 20

    def test_a_yuan_may_buy_more(
        self, new_app: Callable[..., App], ann: Person, database_state: DatabaseState
    ) -> None:
        rich = Person(new_app(coins__per_yuan="10"), ann.always, ann.phone)
        rich.refill("10")
        assert database_state.coins(ann) == 100

    def test_switched_off_it_is_0013(
        self, new_app: Callable[..., App], ann: Person, database_state: DatabaseState
    ) -> None:
        person = Person(new_app(coins__refill="disabled"), ann.always, ann.phone)
        with database_state.unchanged():
            answer = person.refill("10")
        assert answer.body == REFUSED
        assert answer.refusal == "refill is switched off"


@pytest.fixture
def rich(ann: Person) -> Person:
    assert ann.refill("100").result == "0000"
    return ann


class TestSendGift:
    @pytest.mark.parametrize("path", ["/golden", "/friend"])
    def test_coins_go_from_the_sender_to_the_host(
        self, path: str, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        gift = {"value": "30", "object": ben.phone, "description": "一朵玫瑰"}
        answer = rich.post(path, send_gift="1", **gift)
        assert answer.body == {"result": "0000", "message": None}
        assert (database_state.coins(rich), database_state.coins(ben)) == (70, 30)
        (gift,) = database_state.rows("gifts")
        assert gift["description"] == "一朵玫瑰"

    def test_the_gift_remembers_the_hosts_room(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ben.live()
        rich.give(ben, "1")
        assert database_state.rows("gifts")[0]["room_id"] == database_state.rows("rooms")[0]["id"]

    def test_all_one_has_can_be_given(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        assert rich.give(ben, "100").result == "0000"
        assert (database_state.coins(rich), database_state.coins(ben)) == (0, 100)

    def test_a_trailing_yuan_is_tolerated(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        assert rich.give(ben, "5元").result == "0000"
        assert database_state.coins(ben) == 5

    def test_coins_that_were_received_can_be_spent(
        self, rich: Person, ben: Person, cat: Person, database_state: DatabaseState
    ) -> None:
        rich.give(ben, "60")
        assert ben.give(cat, "60").result == "0000"
        assert cat.give(rich, "50").result == "0000"
        assert [database_state.coins(person) for person in (rich, ben, cat)] == [90, 0, 10]

    def test_too_few_coins_move_nothing(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = rich.give(ben, "101")
        assert (answer.status, answer.body) == (200, REFUSED)
        assert answer.refusal == "value is more than the coins there are"

    def test_a_refusal_leaves_the_request_id_free(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        assert rich.give(ben, "150", requestId="g").result == "0013"
        rich.refill("50")
        assert rich.give(ben, "150", requestId="g").result == "0000"
        assert database_state.coins(ben) == 150

    def test_a_repeated_gift_moves_nothing(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        rich.give(ben, "100", requestId="g")
        with database_state.unchanged():
            # Answered as the first time, though there are no coins any more.
            assert rich.give(ben, "100元", requestId="g").result == "0000"

    @pytest.mark.parametrize(
        "changed", [{"value": "2"}, {"description": "a tulip"}, {"object": "13800000003"}]
    )
    def test_a_request_id_with_another_content_is_0013(
        self,
        changed: dict[str, str],
        rich: Person,
        ben: Person,
        cat: Person,
        database_state: DatabaseState,
    ) -> None:
        rich.give(ben, "1", requestId="g")
        form = {"value": "1", "requestId": "g", **changed}
        with database_state.unchanged():
            answer = rich.give(ben, **form)
        assert answer.body == REFUSED
        assert answer.refusal == "requestId was used for another content"

    def test_refills_and_gifts_share_the_request_ids(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        rich.give(ben, "10", requestId="one")
        with database_state.unchanged():
            assert rich.refill("10", requestId="one").body == REFUSED

    @pytest.mark.parametrize(
        "changed",
        [
            *[{"value": value} for value in ("", "0", "-1", "+1", "01", "1.0", "1e2", "１", "元")],
            *[{"value": value} for value in ("100001", "9" * 30, "9" * 5000, "1\0", " 1", "1,000")],
            *[{"object": phone} for phone in ("", NOBODY, "1", "１３８０００００００２", "ben")],
            {"description": ""},
            {"description": "d" * 201},
            {"description": "a\0b"},
            {"description": "a\u2028b"},
            {"requestId": "a b"},
        ],
    )
    def test_a_faulty_parameter_is_0013(
        self, changed: dict[str, str], rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = rich.give(ben, **{"value": "1", **changed})
        assert (answer.status, answer.body) == (200, REFUSED)

    @pytest.mark.parametrize("name", ["value", "object", "description"])
    def test_a_missing_parameter_is_0013(
        self, name: str, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        gift = {"value": "1", "object": ben.phone, "description": "a rose"}
        del gift[name]
        with database_state.unchanged():
            answer = rich.post("/golden", send_gift="1", **gift)
        assert (answer.body, answer.refusal) == (REFUSED, f"{name} is missing")

    def test_oneself_is_0013(self, rich: Person, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            answer = rich.give(rich, "1")
        assert (answer.body, answer.refusal) == (REFUSED, "object is oneself")

    def test_the_largest_gift(
        self, new_app: Callable[..., App], ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        rich = Person(new_app(coins__per_yuan="10000"), ann.always, ann.phone)
        rich.refill("10")
        assert rich.give(ben, "100000").result == "0000"
        assert database_state.coins(ben) == 100_000

    def test_an_unknown_outcome_is_said(
        self, rich: Person, ben: Person, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lost(transfer: object, *, deadline: float) -> object:
            raise Unavailable("the ledger", outcome_unknown=True)

        monkeypatch.setattr(services.ledger_writer, "submit", lost)
        answer = rich.give(ben, "1", requestId="g")
        assert (answer.status, answer.body) == (503, REFUSED)
        assert answer.headers["X-Request-Outcome"] == "unknown"
        assert answer.headers["X-Repeat-As"] == "g"
        assert int(answer.headers["Retry-After"]) > 0

    def test_after_an_unknown_outcome_the_minted_id_repeats_it_safely(
        self,
        rich: Person,
        ben: Person,
        services: Services,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        submit = services.ledger_writer.submit

        def lost_afterwards(transfer: Transfer, *, deadline: float) -> object:
            submit(transfer, deadline=deadline)
            raise Unavailable("the ledger", outcome_unknown=True)

        with monkeypatch.context() as patch:
            patch.setattr(services.ledger_writer, "submit", lost_afterwards)
            answer = rich.give(ben, "30")
        assert answer.status == 503
        with database_state.unchanged():
            again = rich.give(ben, "30", requestId=answer.headers["X-Repeat-As"])
        assert again.result == "0000"
        assert database_state.coins(ben) == 30

    def test_a_call_that_is_not_taken_in_time_moved_nothing(
        self,
        app: App,
        services: Services,
        rich: Person,
        ben: Person,
        database_state: DatabaseState,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        hasty = Gifts(services.database, services.ledger_writer, timeout_s=0.3)
        replace_services(app, monkeypatch, gifts=hasty)
        lock = text("SELECT 1 FROM coin_slots WHERE slot = 0 FOR NO KEY UPDATE")

        def later() -> Answer:
            time.sleep(0.1)
            return rich.give(ben, "20")

        with database.engine.begin() as connection:
            connection.execute(lock)
            # The writer is busy with the first, and has not come to the second.
            first, second = at_once(lambda: rich.give(ben, "1"), later)
        assert (first.status, first.headers["X-Request-Outcome"]) == (503, "unknown")
        assert (second.status, second.body) == (200, REFUSED)
        assert second.refusal == "call was not taken in time"
        assert "X-Request-Outcome" not in second.headers
        assert rich.give(ben, "50").result == "0000"
        assert database_state.coins(ben) in (50, 51)

    def test_a_full_queue_is_503_and_known(
        self,
        app: App,
        services: Services,
        rich: Person,
        ben: Person,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        full = LedgerWriter(services.database, number=0, queue_max=0)
        replace_services(app, monkeypatch, gifts=Gifts(services.database, full))
        answer = rich.give(ben, "1")
        assert (answer.status, answer.body) == (503, REFUSED)
        assert "X-Request-Outcome" not in answer.headers


def test_coins_are_neither_made_nor_lost(
    ann: Person, ben: Person, cat: Person, api: Api, database_state: DatabaseState
) -> None:
    people = [ann, ben, cat]
    for person in people:
        person.refill("50")
    for n in range(30):
        people[n % 3].give(people[(n * 2 + 1) % 3], str(n + 1))
    assert sum(map(database_state.coins, people)) == 150
    assert min(row["amount"] for row in database_state.rows("coin_slots")) >= 0


class TestRetryAfterTheHostRemovedTheirAccount:
    @pytest.fixture
    def gift(self, rich: Person, ben: Person) -> dict[str, str]:
        """A gift that Ben got before removing the account."""
        gift = {"object": ben.phone, "value": "30", "description": "rose", "requestId": "g"}
        assert rich.post("/golden", send_gift="1", **gift).result == "0000"
        assert ben.post("/register", remove="1", password=PASSWORD).result == "0000"
        return gift

    def test_retry_gets_the_first_response(
        self, gift: dict[str, str], rich: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = rich.post("/golden", send_gift="1", **gift)
        assert answer.body == {"result": "0000", "message": None}

    def test_retry_gets_the_first_response_when_the_phone_has_a_new_account(
        self, gift: dict[str, str], rich: Person, api: Api, database_state: DatabaseState
    ) -> None:
        new = api.person(gift["object"])
        with database_state.unchanged():
            answer = rich.post("/golden", send_gift="1", **gift)
        assert answer.body == {"result": "0000", "message": None}
        assert database_state.coins(new) == 0

    def test_same_id_for_a_host_with_an_older_account_is_0013(
        self, gift: dict[str, str], rich: Person, cat: Person, database_state: DatabaseState
    ) -> None:
        database_state.execute("UPDATE accounts SET created_at = now() - interval '1 day'")
        with database_state.unchanged():
            answer = rich.post("/golden", send_gift="1", **(gift | {"object": cat.phone}))
        assert answer.refusal == "requestId was used for another content"

    @pytest.mark.parametrize(
        "changed", [{"value": "31"}, {"description": "tulip"}, {"requestId": "h"}]
    )
    def test_other_gift_to_a_removed_host_is_0013(
        self,
        changed: dict[str, str],
        gift: dict[str, str],
        rich: Person,
        database_state: DatabaseState,
    ) -> None:
        with database_state.unchanged():
            answer = rich.post("/golden", send_gift="1", **(gift | changed))
        assert (answer.body, answer.refusal) == (REFUSED, "object is unknown")

    def test_other_gift_to_the_new_account_with_the_same_id_is_0013(
        self, gift: dict[str, str], rich: Person, api: Api, database_state: DatabaseState
    ) -> None:
        api.person(gift["object"])
        with database_state.unchanged():
            answer = rich.post("/golden", send_gift="1", **(gift | {"value": "31"}))
        assert answer.refusal == "requestId was used for another content"


class TestBalanceLimit:
    def test_gift_to_a_host_with_a_full_balance_is_0013_and_moves_no_coins(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        fill_slots(database_state, ben)
        with database_state.unchanged():
            answer = rich.give(ben, "1")
        assert (answer.status, answer.body) == (200, REFUSED)
        assert answer.refusal == "object would exceed the balance limit"

    def test_refill_of_a_full_balance_is_0013_and_moves_no_coins(
        self, rich: Person, database_state: DatabaseState
    ) -> None:
        fill_slots(database_state, rich)
        with database_state.unchanged():
            answer = rich.refill("10")
        assert (answer.status, answer.body) == (200, REFUSED)
        assert answer.refusal == "money would exceed the balance limit"

    def test_full_balance_is_shown_and_can_be_spent(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        fill_slots(database_state, rich)
        before = 17 * SLOT_COINS_MAX
        assert 2**63 - 18 < before < 2**63
        assert rich.post("/golden", balance="1").message == {"coins": before}
        assert rich.give(ben, "100000").result == "0000"
        assert rich.post("/golden", balance="1").message == {"coins": before - 100_000}
        assert rich.post("/golden", records="1").message["records"][0]["left"] == before - 100_000

    def test_consolidation_leaves_what_slot_0_cannot_hold(
        self, rich: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        fill_slots(database_state, rich)
        database_state.execute("UPDATE coin_slots SET amount = 0 WHERE slot = 0")
        assert rich.give(ben, "1").result == "0000"
        assert database_state.coins(rich) == 16 * SLOT_COINS_MAX - 1


def fill_slots(database_state: DatabaseState, user: Person) -> None:
    """Give a user the largest balance there can be."""
    database_state.execute(
        "INSERT INTO coin_slots (coin_account_id, slot, amount)"
        f" SELECT coin_accounts.id, slot, {SLOT_COINS_MAX}"
        " FROM coin_accounts JOIN accounts ON accounts.id = owner_id, generate_series(0, 16) slot"
        f" WHERE phone = '{user.phone}'"
        " ON CONFLICT (coin_account_id, slot) DO UPDATE SET amount = excluded.amount"
    )
