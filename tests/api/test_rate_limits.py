"""Rate limits of the operations that write, and of requests for unknown users."""

from collections.abc import Callable

import pytest

from livebackend.api.operation_declaration import operations
from livebackend.config.settings import Settings
from livebackend.core.errors import RateLimited
from livebackend.events.outbox import Outbox
from livebackend.services.friends import Friends
from tests.support.api import ApiClient, ApiResponse, App, UserClient, run_concurrently
from tests.support.application import replace_services
from tests.support.database_state import DatabaseState
from tests.support.statements import record_round_trips, record_statements

# Operations without a rate limit: they change no row.
READING_OPERATIONS = {"friendlist", "messagelist", "livelist", "balance", "records"}
# The limit of the connections to the event stream, which are no operation.
CONNECTION_LIMITS = {"event_streams"}
UNKNOWN_PHONE = "13800000077"
MAX_SEARCHES = 3


def test_every_operation_except_the_reading_ones_has_a_rate_limit(app: App) -> None:
    limits_by_name = {
        operation.name: operation.all_limits for operation in operations(app.registry)
    }
    assert {name for name, limits in limits_by_name.items() if not limits} == READING_OPERATIONS
    limit_names = {limit for limits in limits_by_name.values() for limit in limits}
    setting_names = {
        name.removeprefix("limits.")
        for name in Settings.fields_by_name()
        if name.startswith("limits.")
    }
    assert limit_names | CONNECTION_LIMITS == setting_names


def test_operations_without_a_rate_limit_only_read(ann: UserClient) -> None:
    requests = [("/list", name) for name in ("friendlist", "messagelist", "livelist")]
    requests += [("/golden", name) for name in ("balance", "records")]
    with record_statements() as statements:
        for path, selector in requests:
            assert ann.post(path, **{selector: "1"}).result == "0000"
    assert {selector for _, selector in requests} == READING_OPERATIONS
    assert [text for text in statements if not text.lstrip().startswith(("SELECT", "WITH"))] == []


@pytest.fixture
def limited_app(new_app: Callable[..., App]) -> App:
    return new_app(limits__unknown_users=f"{MAX_SEARCHES} per hour")


def look_up(user: UserClient, path: str, selector: str, phone: str) -> ApiResponse:
    return user.post(
        path, **{selector: "1"}, userId=phone, object=phone, value="1", description="x"
    )


LOOKUPS = [
    ("/friend", "search"),
    ("/friend", "add"),
    ("/friend", "block"),
    ("/friend", "unblock"),
    ("/golden", "ranking"),
    ("/golden", "send_gift"),
]


@pytest.mark.parametrize(("path", "selector"), LOOKUPS)
def test_lookups_of_unknown_users_are_limited_and_then_hide_known_users(
    path: str, selector: str, limited_app: App, ann: UserClient, ben: UserClient
) -> None:
    limited_ann = ann.with_app(limited_app)
    phones = [f"139000000{n:02}" for n in range(MAX_SEARCHES + 1)]
    responses = [look_up(limited_ann, path, selector, phone) for phone in phones]
    reasons = [str(response.error).partition("; ")[2] for response in responses]
    assert reasons == ["reason=unknown_user"] * MAX_SEARCHES + ["reason=rate_limited"]
    # The response to a known user equals the last one, and all operations count together.
    for other_path, other_selector in LOOKUPS:
        response = look_up(limited_ann, other_path, other_selector, ben.phone)
        assert response.error == "request; reason=rate_limited", other_selector
    assert ben.friends() == []


@pytest.mark.parametrize(("path", "selector"), LOOKUPS[1:])
def test_lookup_of_a_known_user_does_not_count_as_a_search(
    path: str, selector: str, limited_app: App, ann: UserClient, ben: UserClient
) -> None:
    for _ in range(MAX_SEARCHES + 1):
        response = look_up(ann.with_app(limited_app), path, selector, ben.phone)
        assert response.error != "request; reason=rate_limited"


def test_concurrent_lookups_of_unknown_users_reveal_no_more_than_the_limit(
    limited_app: App, ann: UserClient
) -> None:
    limited_ann = ann.with_app(limited_app)
    responses = run_concurrently(
        *[
            lambda n=n: look_up(limited_ann, "/friend", "block", f"139000000{n:02}")
            for n in range(12)
        ]
    )
    errors = [response.error for response in responses]
    assert errors.count("userId; reason=unknown_user") == MAX_SEARCHES
    assert errors.count("request; reason=rate_limited") == 12 - MAX_SEARCHES


def test_message_handling_and_friend_removal_do_not_reveal_whether_a_phone_is_registered(
    ann: UserClient, ben: UserClient, cat: UserClient, database_state: DatabaseState
) -> None:
    ben.send_friend_request(cat)
    (message,) = cat.messages()
    ids_of_another_user = {name: message[name] for name in ("verifyId", "objectId")}
    unknown_ids = {"verifyId": f"{ann.phone},1", "objectId": f"{ben.phone},2"}
    mixed_ids = {**unknown_ids, "verifyId": message["verifyId"]}
    forms = [{"delete": "1"}]
    forms += [
        {"dealMessage": "1", "behaviour": behaviour, **ids}
        for behaviour in ("accept", "delete")
        for ids in (unknown_ids, ids_of_another_user, mixed_ids)
    ]
    with database_state.assert_unchanged():
        for form in forms:
            known, unknown = (
                ann.post("/friend", **form, userId=phone) for phone in (ben.phone, UNKNOWN_PHONE)
            )
            assert (known.result, known.error) == (unknown.result, unknown.error), form
            assert known.result == "0006"


def test_limit_that_a_service_applies_later_undoes_the_counts_of_the_operation(
    new_app: Callable[..., App],
    ann: UserClient,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = new_app(limits__friend_changes="5 per hour")

    class LimitedFriends(Friends):
        def unfriend(self, *_: object) -> None:
            raise RateLimited(retry_after_s=7)

    replace_services(app, monkeypatch, friends=LimitedFriends(Outbox(enabled=False), friends_max=1))
    response = ann.with_app(app).post("/friend", delete="1", userId="13800000002")
    assert response.headers["Retry-After"] == "7"
    assert [row["counts"] for row in database_state.rows("rate_limit_counters")] == [[]]


def test_code_request_for_a_registered_phone_counts_for_the_client_address(
    new_app: Callable[..., App], ann: UserClient, database_state: DatabaseState
) -> None:
    limits = {f"limits__sms_{name}": "2 per hour" for name in ("address", "phone", "total")}
    api = ApiClient(new_app(**limits))
    results = [api.post("/register", token=ann.phone).result for _ in range(3)]
    assert results == ["0001", "0001", "0002"]
    counted = {
        row["key"].partition("/")[0]
        for row in database_state.rows("rate_limit_counters")
        if row["counts"]
    }
    assert counted == {"sms_address"}


def test_unknown_users_that_one_account_looks_up_do_not_limit_another_account(
    limited_app: App, ann: UserClient, ben: UserClient
) -> None:
    for _ in range(MAX_SEARCHES):
        look_up(ann.with_app(limited_app), "/friend", "block", UNKNOWN_PHONE)
    assert look_up(ben.with_app(limited_app), "/friend", "search", ann.phone).result == "0000"


def test_token_coin_accounts_and_rate_limits_of_a_gift_need_one_statement(
    new_app: Callable[..., App], ann: UserClient, ben: UserClient
) -> None:
    limited_app = new_app(
        limits__gifts="9 per minute; 10 per hour", limits__unknown_users="9 per hour"
    )
    ann.refill("10")
    for client in (ann, ann.with_app(limited_app)):
        with record_statements() as statements:
            assert client.send_gift(ben, "1").result == "0000"
        before_the_ledger, *_ = statements
        assert "JOIN coin_accounts AS debit" in before_the_ledger
        assert ("count_request" in before_the_ledger) == (client is not ann)
        assert sum("count_request" in statement for statement in statements) <= 1


@pytest.mark.parametrize("limit", ["", "9 per hour"])
def test_search_needs_two_statements(
    limit: str, new_app: Callable[..., App], ann: UserClient, ben: UserClient
) -> None:
    limited_ann = ann.with_app(new_app(limits__search=limit))
    with record_round_trips() as round_trips:
        assert limited_ann.post("/friend", search="1", userId=ben.phone).result == "0000"
    assert len(round_trips) == 2
    assert ("count_request" in round_trips[0]) == bool(limit)


def test_login_token_and_rate_limits_of_a_write_need_one_statement_before_its_transaction(
    new_app: Callable[..., App], ann: UserClient, ben: UserClient
) -> None:
    limited_ann = ann.with_app(
        new_app(limits__friend_changes="9 per hour", limits__unknown_users="9 per hour")
    )
    with record_round_trips() as round_trips:
        assert limited_ann.post("/friend", block="1", userId=ben.phone).result == "0000"
    assert "count_request" in round_trips[0]
    assert round_trips[1] == "BEGIN"
    token_checks = [statement for statement in round_trips if "revoked_tokens" in statement]
    assert token_checks == round_trips[:1]


COUNTED_CALLS = [("/friend", "search"), ("/friend", "block"), ("/golden", "send_gift")]


@pytest.mark.parametrize(("path", "selector"), COUNTED_CALLS)
def test_request_with_a_revoked_token_is_not_counted(
    path: str,
    selector: str,
    new_app: Callable[..., App],
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
) -> None:
    limited_ann = ann.with_app(
        new_app(limits__search="9 per hour", limits__friend_changes="9 per hour")
    )
    assert limited_ann.post("/log", logout="1").result == "0000"
    with database_state.assert_unchanged():
        for phone in (ben.phone, UNKNOWN_PHONE, "invalid"):
            assert look_up(limited_ann, path, selector, phone).result == "0012"
    assert database_state.rows("rate_limit_counters") == []


@pytest.mark.parametrize(("path", "selector"), COUNTED_CALLS)
def test_request_with_an_invalid_user_id_is_not_counted(
    path: str,
    selector: str,
    new_app: Callable[..., App],
    ann: UserClient,
    database_state: DatabaseState,
) -> None:
    limited_ann = ann.with_app(
        new_app(limits__search="9 per hour", limits__unknown_users="9 per hour")
    )
    assert look_up(limited_ann, path, selector, "invalid").result not in ("0000", "0012")
    assert database_state.rows("rate_limit_counters") == []


def test_limit_of_zero_refuses_every_gift_but_a_token_error_takes_precedence(
    new_app: Callable[..., App], ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.refill("10")
    assert ann.send_gift(ben, "1", requestId="r").result == "0000"
    limited_ann = ann.with_app(new_app(limits__gifts="0 per day"))

    def gift_results() -> list[str]:
        return [limited_ann.send_gift(ben, "1", requestId=key).result for key in ("r", "new")]

    assert gift_results() == ["0000", "0013"]
    assert ann.post("/log", logout="1").result == "0000"
    assert gift_results() == ["0012", "0012"]
    assert database_state.rows("rate_limit_counters") == []


def test_gift_to_an_unknown_user_counts_as_a_gift_too(
    new_app: Callable[..., App], ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.refill("10")
    limited_ann = ann.with_app(
        new_app(limits__gifts="9 per hour", limits__unknown_users="9 per hour")
    )
    for phone in (ben.phone, UNKNOWN_PHONE):
        look_up(limited_ann, "/golden", "send_gift", phone)
    counts = {
        row["key"].partition("/")[0]: sum(row["counts"])
        for row in database_state.rows("rate_limit_counters")
    }
    assert counts == {"gifts": 2, "unknown_users": 1}


def test_retry_of_a_posted_gift_succeeds_when_the_limit_of_gifts_is_reached(
    new_app: Callable[..., App], ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.refill("10")
    limited_ann = ann.with_app(
        new_app(limits__gifts="1 per hour", limits__gift_retries="2 per hour")
    )
    assert limited_ann.send_gift(ben, "1", requestId="r").result == "0000"
    for _ in range(2):
        assert limited_ann.send_gift(ben, "1", requestId="r").result == "0000"
    for request_id in ("r", "new"):
        response = limited_ann.send_gift(ben, "1", requestId=request_id)
        assert (response.result, response.error) == ("0013", "request; reason=rate_limited")
    assert database_state.coins(ben) == 1
