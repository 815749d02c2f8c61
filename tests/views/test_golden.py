"""Tests of refills and gifts."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from livebackend.container import Services
from livebackend.core.errors import ServiceUnavailable
from livebackend.database.engine import Database
from livebackend.ledger.batch_writer import LedgerBatchWriter
from livebackend.ledger.transfers import Transfer
from livebackend.models import MAX_SLOT_COINS
from livebackend.services.gifts import Gifts
from tests.support.api import PASSWORD, ApiClient, ApiResponse, App, UserClient, run_concurrently
from tests.support.application import replace_services
from tests.support.database_state import DatabaseState

COINS_NOT_UPDATED = {"result": "0013", "message": "update failed"}
UNKNOWN_PHONE = "13800000077"


class TestRefill:
    @pytest.mark.parametrize("path", ["/golden", "/friend"])
    @pytest.mark.parametrize("money", ["10", "50", "100", "10元", "100元"])
    def test_refill_credits_one_coin_per_yuan(
        self, money: str, path: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        response = ann.post(path, refill="1", money=money)
        assert response.body == {"result": "0000", "message": None}
        assert database_state.coins(ann) == int(money.removesuffix("元"))

    @pytest.mark.parametrize(
        "money",
        ["", "0", "1", "20", "-10", "+10", "010", "10.0", "1e1", "１０", "10元元", "元", "10 ",
         "10\0", "9" * 5000],
    )  # fmt: skip
    def test_refill_with_an_unsupported_amount_returns_0013(
        self, money: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = ann.refill(money)
        assert (response.status, response.body) == (200, COINS_NOT_UPDATED)

    def test_refill_without_an_amount_returns_0013(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert ann.post("/golden", refill="1").body == COINS_NOT_UPDATED

    def test_each_refill_without_a_request_id_credits_coins(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        assert ann.refill("10").result == ann.refill("10").result == "0000"
        assert database_state.coins(ann) == 20

    def test_retry_of_a_refill_succeeds_and_moves_no_coins(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        first_response = ann.refill("10", requestId="a-1")
        with database_state.assert_unchanged():
            # "10元" and "10" are parsed to the same amount.
            second_response = ann.refill("10元", requestId="a-1")
        assert first_response.body == second_response.body == {"result": "0000", "message": None}

    def test_refill_with_a_used_request_id_and_another_amount_returns_0013(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="a-1")
        with database_state.assert_unchanged():
            response = ann.refill("50", requestId="a-1")
        assert response.body == COINS_NOT_UPDATED
        assert response.error == "requestId; reason=request_id_reused"

    def test_refills_of_two_users_can_have_the_same_request_id(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="a-1")
        assert ben.refill("50", requestId="a-1").result == "0000"
        assert (database_state.coins(ann), database_state.coins(ben)) == (10, 50)

    @pytest.mark.parametrize("request_id", ["x" * 65, "a b", "a/b", "令", "a\n", "é"])
    def test_refill_with_a_malformed_request_id_returns_0013(
        self, request_id: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert ann.refill("10", requestId=request_id).body == COINS_NOT_UPDATED

    def test_refill_with_an_empty_request_id_is_not_a_retry(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.refill("10", requestId="")
        ann.refill("10", requestId="")
        assert database_state.coins(ann) == 20

    def test_refill_credits_the_configured_coins_per_yuan(
        self, new_app: Callable[..., App], ann: UserClient, database_state: DatabaseState
    ) -> None:
        user = ann.with_app(new_app(coins__per_yuan="10"))
        user.refill("10")
        assert database_state.coins(ann) == 100

    def test_refill_with_disabled_refills_returns_0013(
        self, new_app: Callable[..., App], ann: UserClient, database_state: DatabaseState
    ) -> None:
        user = ann.with_app(new_app(coins__refill="disabled"))
        with database_state.assert_unchanged():
            response = user.refill("10")
        assert response.body == COINS_NOT_UPDATED
        assert response.error == "refill; reason=refills_disabled"


@pytest.fixture
def sender(ann: UserClient) -> UserClient:
    """Ann, who has 100 coins."""
    assert ann.refill("100").result == "0000"
    return ann


class TestSendGift:
    @pytest.mark.parametrize("path", ["/golden", "/friend"])
    def test_gift_moves_coins_from_the_sender_to_the_host(
        self, path: str, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        gift = {"value": "30", "object": ben.phone, "description": "一朵玫瑰"}
        response = sender.post(path, send_gift="1", **gift)
        assert response.body == {"result": "0000", "message": None}
        assert (database_state.coins(sender), database_state.coins(ben)) == (70, 30)
        (gift,) = database_state.rows("gifts")
        assert gift["description"] == "一朵玫瑰"

    def test_gift_stores_the_room_of_the_host(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        ben.go_live()
        sender.send_gift(ben, "1")
        assert database_state.rows("gifts")[0]["room_id"] == database_state.rows("rooms")[0]["id"]

    def test_gift_of_the_full_balance_succeeds(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        assert sender.send_gift(ben, "100").result == "0000"
        assert (database_state.coins(sender), database_state.coins(ben)) == (0, 100)

    def test_gift_value_with_a_trailing_yuan_sign_is_accepted(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        assert sender.send_gift(ben, "5元").result == "0000"
        assert database_state.coins(ben) == 5

    def test_received_coins_can_be_given_to_another_host(
        self, sender: UserClient, ben: UserClient, cat: UserClient, database_state: DatabaseState
    ) -> None:
        sender.send_gift(ben, "60")
        assert ben.send_gift(cat, "60").result == "0000"
        assert cat.send_gift(sender, "50").result == "0000"
        assert [database_state.coins(user) for user in (sender, ben, cat)] == [90, 0, 10]

    def test_gift_with_insufficient_balance_moves_no_coins(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = sender.send_gift(ben, "101")
        assert (response.status, response.body) == (200, COINS_NOT_UPDATED)
        assert response.error == "value; reason=insufficient_coins"

    def test_failed_gift_does_not_use_up_the_request_id(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        assert sender.send_gift(ben, "150", requestId="g").result == "0013"
        sender.refill("50")
        assert sender.send_gift(ben, "150", requestId="g").result == "0000"
        assert database_state.coins(ben) == 150

    def test_retry_of_a_gift_succeeds_and_moves_no_coins(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        sender.send_gift(ben, "100", requestId="g")
        with database_state.assert_unchanged():
            # The retry succeeds although the balance is 0.
            assert sender.send_gift(ben, "100元", requestId="g").result == "0000"

    @pytest.mark.parametrize(
        "changed_parameters",
        [{"value": "2"}, {"description": "a tulip"}, {"object": "13800000003"}],
    )
    def test_gift_with_a_used_request_id_and_other_parameters_returns_0013(
        self,
        changed_parameters: dict[str, str],
        sender: UserClient,
        ben: UserClient,
        cat: UserClient,
        database_state: DatabaseState,
    ) -> None:
        sender.send_gift(ben, "1", requestId="g")
        parameters = {"value": "1", "requestId": "g", **changed_parameters}
        with database_state.assert_unchanged():
            response = sender.send_gift(ben, **parameters)
        assert response.body == COINS_NOT_UPDATED
        assert response.error == "requestId; reason=request_id_reused"

    def test_refill_with_the_request_id_of_a_gift_returns_0013(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        sender.send_gift(ben, "10", requestId="one")
        with database_state.assert_unchanged():
            assert sender.refill("10", requestId="one").body == COINS_NOT_UPDATED

    @pytest.mark.parametrize(
        "changed_parameters",
        [
            *[{"value": value} for value in ("", "0", "-1", "+1", "01", "1.0", "1e2", "１", "元")],
            *[{"value": value} for value in ("100001", "9" * 30, "9" * 5000, "1\0", " 1", "1,000")],
            *[
                {"object": phone}
                for phone in ("", UNKNOWN_PHONE, "1", "１３８０００００００２", "ben")
            ],
            {"description": ""},
            {"description": "d" * 201},
            {"description": "a\0b"},
            {"description": "a\u2028b"},
            {"requestId": "a b"},
        ],
    )
    def test_gift_with_an_invalid_parameter_returns_0013(
        self,
        changed_parameters: dict[str, str],
        sender: UserClient,
        ben: UserClient,
        database_state: DatabaseState,
    ) -> None:
        with database_state.assert_unchanged():
            response = sender.send_gift(ben, **{"value": "1", **changed_parameters})
        assert (response.status, response.body) == (200, COINS_NOT_UPDATED)

    @pytest.mark.parametrize("name", ["value", "object", "description"])
    def test_gift_without_a_required_parameter_returns_0013(
        self, name: str, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        gift = {"value": "1", "object": ben.phone, "description": "a rose"}
        del gift[name]
        with database_state.assert_unchanged():
            response = sender.post("/golden", send_gift="1", **gift)
        assert (response.body, response.error) == (COINS_NOT_UPDATED, f"{name}; reason=missing")

    def test_gift_to_own_phone_returns_0013(
        self, sender: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = sender.send_gift(sender, "1")
        assert (response.body, response.error) == (COINS_NOT_UPDATED, "object; reason=own_account")

    def test_gift_of_100000_coins_succeeds(
        self,
        new_app: Callable[..., App],
        ann: UserClient,
        ben: UserClient,
        database_state: DatabaseState,
    ) -> None:
        user = ann.with_app(new_app(coins__per_yuan="10000"))
        user.refill("10")
        assert user.send_gift(ben, "100000").result == "0000"
        assert database_state.coins(ben) == 100_000

    def test_gift_with_unknown_outcome_returns_503_with_the_outcome_headers(
        self,
        sender: UserClient,
        ben: UserClient,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def lose_response(transfer: object, *, deadline: float) -> object:
            raise ServiceUnavailable("the ledger", outcome_unknown=True)

        monkeypatch.setattr(services.ledger_writer, "submit", lose_response)
        response = sender.send_gift(ben, "1", requestId="g")
        assert (response.status, response.body) == (503, COINS_NOT_UPDATED)
        assert response.headers["X-Request-Outcome"] == "unknown"
        assert response.headers["X-Retry-Request-Id"] == "g"
        assert int(response.headers["Retry-After"]) > 0

    def test_retry_with_the_returned_id_after_an_unknown_outcome_moves_no_coins(
        self,
        sender: UserClient,
        ben: UserClient,
        services: Services,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        submit = services.ledger_writer.submit

        def submit_and_lose_response(transfer: Transfer, *, deadline: float) -> object:
            submit(transfer, deadline=deadline)
            raise ServiceUnavailable("the ledger", outcome_unknown=True)

        with monkeypatch.context() as patch:
            patch.setattr(services.ledger_writer, "submit", submit_and_lose_response)
            response = sender.send_gift(ben, "30")
        assert response.status == 503
        with database_state.assert_unchanged():
            retry_response = sender.send_gift(
                ben, "30", requestId=response.headers["X-Retry-Request-Id"]
            )
        assert retry_response.result == "0000"
        assert database_state.coins(ben) == 30

    def test_gift_that_times_out_in_the_ledger_queue_returns_0013_and_moves_no_coins(
        self,
        app: App,
        services: Services,
        sender: UserClient,
        ben: UserClient,
        database_state: DatabaseState,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        gifts_with_short_timeout = Gifts(
            services.database, services.ledger_writer, services.rate_limits, timeout_s=0.3
        )
        replace_services(app, monkeypatch, gifts=gifts_with_short_timeout)
        lock_statement = text("SELECT 1 FROM coin_slots WHERE slot = 0 FOR NO KEY UPDATE")

        def send_gift_after_100_ms() -> ApiResponse:
            time.sleep(0.1)
            return sender.send_gift(ben, "20")

        with database.engine.begin() as connection:
            connection.execute(lock_statement)
            # The ledger writer has taken the first gift and waits for the lock; the second gift
            # stays in the queue.
            first_response, second_response = run_concurrently(
                lambda: sender.send_gift(ben, "1"), send_gift_after_100_ms
            )
        assert (first_response.status, first_response.headers["X-Request-Outcome"]) == (
            503,
            "unknown",
        )
        assert (second_response.status, second_response.body) == (200, COINS_NOT_UPDATED)
        assert second_response.error == "request; reason=ledger_busy"
        assert "X-Request-Outcome" not in second_response.headers
        assert sender.send_gift(ben, "50").result == "0000"
        assert database_state.coins(ben) in (50, 51)

    def test_gift_with_a_full_ledger_queue_returns_503_with_a_known_outcome(
        self,
        app: App,
        services: Services,
        sender: UserClient,
        ben: UserClient,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        writer_with_full_queue = LedgerBatchWriter(
            services.database, writer_number=0, max_queue_length=0
        )
        replace_services(
            app,
            monkeypatch,
            gifts=Gifts(services.database, writer_with_full_queue, services.rate_limits),
        )
        response = sender.send_gift(ben, "1")
        assert (response.status, response.body) == (503, COINS_NOT_UPDATED)
        assert "X-Request-Outcome" not in response.headers


def test_gifts_do_not_change_the_total_number_of_coins(
    ann: UserClient, ben: UserClient, cat: UserClient, api: ApiClient, database_state: DatabaseState
) -> None:
    users = [ann, ben, cat]
    for user in users:
        user.refill("50")
    for n in range(30):
        users[n % 3].send_gift(users[(n * 2 + 1) % 3], str(n + 1))
    assert sum(map(database_state.coins, users)) == 150
    assert min(row["amount"] for row in database_state.rows("coin_slots")) >= 0


class TestRetryAfterTheHostRemovedTheirAccount:
    @pytest.fixture
    def gift(self, sender: UserClient, ben: UserClient) -> dict[str, str]:
        """The parameters of a gift to Ben, who removed their account after the gift."""
        gift = {"object": ben.phone, "value": "30", "description": "rose", "requestId": "g"}
        assert sender.post("/golden", send_gift="1", **gift).result == "0000"
        assert ben.post("/register", remove="1", password=PASSWORD).result == "0000"
        return gift

    def test_retry_of_a_gift_to_a_removed_host_returns_the_first_response(
        self, gift: dict[str, str], sender: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = sender.post("/golden", send_gift="1", **gift)
        assert response.body == {"result": "0000", "message": None}

    def test_retry_of_a_gift_returns_the_first_response_when_the_phone_has_a_new_account(
        self,
        gift: dict[str, str],
        sender: UserClient,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        new_account = api.register_user(gift["object"])
        with database_state.assert_unchanged():
            response = sender.post("/golden", send_gift="1", **gift)
        assert response.body == {"result": "0000", "message": None}
        assert database_state.coins(new_account) == 0

    def test_gift_to_an_older_account_with_a_used_request_id_returns_0013(
        self,
        gift: dict[str, str],
        sender: UserClient,
        cat: UserClient,
        database_state: DatabaseState,
    ) -> None:
        database_state.execute("UPDATE accounts SET created_at = now() - interval '1 day'")
        with database_state.assert_unchanged():
            response = sender.post("/golden", send_gift="1", **(gift | {"object": cat.phone}))
        assert response.error == "requestId; reason=request_id_reused"

    @pytest.mark.parametrize(
        "changed_parameters", [{"value": "31"}, {"description": "tulip"}, {"requestId": "h"}]
    )
    def test_different_gift_to_a_removed_host_returns_0013(
        self,
        changed_parameters: dict[str, str],
        gift: dict[str, str],
        sender: UserClient,
        database_state: DatabaseState,
    ) -> None:
        with database_state.assert_unchanged():
            response = sender.post("/golden", send_gift="1", **(gift | changed_parameters))
        assert (response.body, response.error) == (COINS_NOT_UPDATED, "object; reason=unknown_user")

    def test_different_gift_to_the_new_account_with_a_used_request_id_returns_0013(
        self,
        gift: dict[str, str],
        sender: UserClient,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        api.register_user(gift["object"])
        with database_state.assert_unchanged():
            response = sender.post("/golden", send_gift="1", **(gift | {"value": "31"}))
        assert response.error == "requestId; reason=request_id_reused"


class TestBalanceLimit:
    def test_gift_to_a_host_with_a_full_balance_returns_0013_and_moves_no_coins(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        fill_balance(database_state, ben)
        with database_state.assert_unchanged():
            response = sender.send_gift(ben, "1")
        assert (response.status, response.body) == (200, COINS_NOT_UPDATED)
        assert response.error == "object; reason=balance_limit"

    def test_refill_of_a_full_balance_returns_0013_and_moves_no_coins(
        self, sender: UserClient, database_state: DatabaseState
    ) -> None:
        fill_balance(database_state, sender)
        with database_state.assert_unchanged():
            response = sender.refill("10")
        assert (response.status, response.body) == (200, COINS_NOT_UPDATED)
        assert response.error == "money; reason=balance_limit"

    def test_full_balance_can_be_read_and_spent(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        fill_balance(database_state, sender)
        full_balance = 17 * MAX_SLOT_COINS
        assert 2**63 - 18 < full_balance < 2**63
        assert sender.post("/golden", balance="1").message == {"coins": full_balance}
        assert sender.send_gift(ben, "100000").result == "0000"
        assert sender.post("/golden", balance="1").message == {"coins": full_balance - 100_000}
        assert (
            sender.post("/golden", records="1").message["records"][0]["left"]
            == full_balance - 100_000
        )

    def test_consolidation_leaves_coins_over_the_slot_limit_in_other_slots(
        self, sender: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        fill_balance(database_state, sender)
        database_state.execute("UPDATE coin_slots SET amount = 0 WHERE slot = 0")
        assert sender.send_gift(ben, "1").result == "0000"
        assert database_state.coins(sender) == 16 * MAX_SLOT_COINS - 1


def fill_balance(database_state: DatabaseState, user: UserClient) -> None:
    """Give a user the largest possible balance."""
    database_state.execute(
        "INSERT INTO coin_slots (coin_account_id, slot, amount)"
        f" SELECT coin_accounts.id, slot, {MAX_SLOT_COINS}"
        " FROM coin_accounts JOIN accounts ON accounts.id = owner_id, generate_series(0, 16) slot"
        f" WHERE phone = '{user.phone}'"
        " ON CONFLICT (coin_account_id, slot) DO UPDATE SET amount = excluded.amount"
    )
