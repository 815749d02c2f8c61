"""Rate limits of failed logins; other clients of the account are not affected."""

from collections.abc import Callable
from functools import partial

import pytest

from livebackend.services.password_hashing import PasswordHasher
from tests.support.api import (
    PASSWORD,
    ApiClient,
    ApiResponse,
    App,
    UserClient,
    run_concurrently,
    sorted_results,
)
from tests.support.database_state import DatabaseState

ADDRESS, OTHER_ADDRESS = "203.0.113.7", "198.51.100.1"
WRONG_PASSWORD = {"result": "0008", "message": None}


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    return new_app(
        limits__login_account="10 per 5 minutes; 12 per hour",
        limits__login_address="15 per hour",
        passwords__max_concurrent="1",
        passwords__queue_timeout_s="3",
    )


@pytest.fixture
def compared_passwords(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Passwords that the application has compared with a hash."""
    passwords = []
    original_verify = PasswordHasher.verify

    def record_and_verify(self: PasswordHasher, password: str, password_hash: str | None) -> bool:
        passwords.append(password)
        return original_verify(self, password, password_hash)

    monkeypatch.setattr(PasswordHasher, "verify", record_and_verify)
    return passwords


def log_in(
    api: ApiClient, phone: str, password: str = PASSWORD, address: str = ADDRESS
) -> ApiResponse:
    form = {"userId": phone, "password": password}
    return api.post_form("/log", form, extra_environ={"REMOTE_ADDR": address})


def test_right_password_is_rejected_after_ten_failures_from_the_same_address(
    ann: UserClient, api: ApiClient, compared_passwords: list[str]
) -> None:
    failed_responses = [log_in(api, ann.phone, f"wrong-{n}") for n in range(10)]
    compared_passwords.clear()
    limited_response = log_in(api, ann.phone)
    assert limited_response.body == WRONG_PASSWORD
    # A rate-limited login has the response of a wrong password, but no password is compared.
    assert limited_response.headers.keys() == failed_responses[0].headers.keys()
    assert limited_response.error == failed_responses[0].error == "password; reason=wrong_password"
    assert compared_passwords == []


def test_user_logs_in_from_another_address_after_failures(ann: UserClient, api: ApiClient) -> None:
    for n in range(11):
        log_in(api, ann.phone, f"wrong-{n}")
    assert log_in(api, ann.phone).result == "0008"
    assert log_in(api, ann.phone, address=OTHER_ADDRESS).result == "0000"


def test_login_stays_blocked_by_the_hourly_rule_after_the_five_minute_rule_expires(
    ann: UserClient, api: ApiClient, database_state: DatabaseState, compared_passwords: list[str]
) -> None:
    def expire_five_minute_windows() -> None:
        database_state.execute(
            "DELETE FROM rate_limit_counters WHERE key LIKE 'login_account/300/%'"
        )

    for n in range(11):
        log_in(api, ann.phone, f"wrong-{n}")
    expire_five_minute_windows()
    for n in range(3):
        log_in(api, ann.phone, f"wrong-{n}")
    assert len(compared_passwords) == 12
    expire_five_minute_windows()
    assert log_in(api, ann.phone).result == "0008"


def test_successful_login_counts_towards_no_rate_limit(
    ann: UserClient, api: ApiClient, database_state: DatabaseState
) -> None:
    database_state.execute("DELETE FROM rate_limit_counters")
    for _ in range(20):
        assert log_in(api, ann.phone).result == "0000"
    assert database_state.rows("rate_limit_counters") == []


def test_failures_with_many_accounts_block_the_address(
    ann: UserClient, api: ApiClient, compared_passwords: list[str]
) -> None:
    for n in range(15):
        assert log_in(api, f"138000001{n:02}").result == "0007"
    compared_passwords.clear()
    assert log_in(api, ann.phone).body == WRONG_PASSWORD
    assert log_in(api, "13800000177").body == WRONG_PASSWORD
    assert compared_passwords == []
    assert log_in(api, ann.phone, address=OTHER_ADDRESS).result == "0000"


def test_concurrent_wrong_passwords_are_compared_at_most_ten_times(
    ann: UserClient, api: ApiClient, compared_passwords: list[str]
) -> None:
    compared_passwords.clear()
    wrong_logins = [partial(log_in, api, ann.phone, f"wrong-{n}") for n in range(30)]
    assert sorted_results(run_concurrently(*wrong_logins)) == ["0008"] * 30
    assert len(compared_passwords) == 10


def test_concurrent_logins_with_the_right_password_succeed(ann: UserClient, api: ApiClient) -> None:
    assert (
        sorted_results(run_concurrently(*[partial(log_in, api, ann.phone)] * 20)) == ["0000"] * 20
    )


def test_wrong_password_at_account_removal_counts_as_a_failure(ann: UserClient) -> None:
    for n in range(10):
        ann.post("/register", remove="1", password=f"wrong-{n}")
    assert ann.post("/register", remove="1", password=PASSWORD).result == "0008"


def test_hash_with_a_lower_cost_is_replaced_at_the_next_login(
    new_app: Callable[..., App], ann: UserClient, database_state: DatabaseState
) -> None:
    (account_before,) = database_state.rows("accounts")
    api_with_higher_cost = ApiClient(new_app(passwords__cost="5"))
    assert log_in(api_with_higher_cost, ann.phone, "wrong-1").result == "0008"
    assert database_state.rows("accounts") == [account_before]
    assert log_in(api_with_higher_cost, ann.phone).result == "0000"
    (account_after,) = database_state.rows("accounts")
    assert account_before["password_hash"].startswith("$2b$04$")
    assert account_after["password_hash"].startswith("$2b$05$")
    # Only the hash changes. The token version is the same, so earlier login tokens remain valid.
    assert {**account_after, "password_hash": ""} == {**account_before, "password_hash": ""}
    assert log_in(api_with_higher_cost, ann.phone).result == "0000"
    assert database_state.rows("accounts") == [account_after]
