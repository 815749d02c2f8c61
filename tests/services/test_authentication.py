"""Rate limits of logins, which do not affect the usual addresses of the account."""

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
from tests.support.statements import record_round_trips

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
    ann: UserClient, new_app: Callable[..., App], compared_passwords: list[str]
) -> None:
    # Concurrent attempts are counted as hashes before the first of them is counted as a failure.
    api = ApiClient(new_app(limits__password_hashes_account="10 per minute"))
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


class TestRoundTrips:
    """A login takes at most three round trips to PostgreSQL."""

    @pytest.fixture
    def api(self, new_hardened_app: Callable[..., App], database_state: DatabaseState) -> ApiClient:
        api = ApiClient(new_hardened_app(register__verified_phone="optional"))
        for phone in ("13800000001", "13800000002"):
            api.register_user(phone)
        for _ in range(2):
            log_in(api, "13800000001")
        database_state.execute("DELETE FROM rate_limit_counters")
        return api

    @pytest.mark.parametrize(
        ("phone", "password", "address", "expected_result", "expected_count"),
        [
            pytest.param("13800000001", PASSWORD, ADDRESS, "0000", 2, id="last address"),
            pytest.param("13800000001", PASSWORD, OTHER_ADDRESS, "0000", 3, id="new address"),
            pytest.param("13800000001", "wrong-1", ADDRESS, "0008", 3, id="wrong password"),
            pytest.param("13800000099", PASSWORD, ADDRESS, "0007", 3, id="unknown phone"),
        ],
    )
    def test_login_takes_at_most_three_round_trips(
        self,
        phone: str,
        password: str,
        address: str,
        expected_result: str,
        expected_count: int,
        api: ApiClient,
    ) -> None:
        with record_round_trips() as round_trips:
            assert log_in(api, phone, password, address).result == expected_result
        assert len(round_trips) == expected_count, round_trips

    def test_login_over_a_limit_takes_two_round_trips(self, api: ApiClient) -> None:
        for n in range(11):
            log_in(api, "13800000001", f"wrong-{n}")
        with record_round_trips() as round_trips:
            assert log_in(api, "13800000001").result == "0008"
        assert len(round_trips) == 2, round_trips


class TestHashLimits:
    """Successful logins count too, before they wait for a permit."""

    @pytest.fixture
    def api(self, new_app: Callable[..., App]) -> ApiClient:
        return ApiClient(
            new_app(
                limits__password_hashes_account="3 per minute",
                limits__password_hashes_address="5 per minute",
            )
        )

    def test_successful_logins_of_one_account_from_one_address_are_limited(
        self, api: ApiClient, compared_passwords: list[str]
    ) -> None:
        ann = api.register_user("13800000001")
        results = [log_in(api, ann.phone).result for _ in range(6)]
        assert results == ["0000"] * 3 + ["0008"] * 3
        assert len(compared_passwords) == 3
        assert log_in(api, ann.phone, address=OTHER_ADDRESS).result == "0000"

    def test_logins_with_many_phones_from_one_address_are_limited(
        self, api: ApiClient, compared_passwords: list[str]
    ) -> None:
        results = [log_in(api, f"138000001{n:02}").result for n in range(8)]
        assert results == ["0007"] * 5 + ["0008"] * 3
        assert len(compared_passwords) == 5

    def test_login_over_the_limit_has_the_response_of_a_wrong_password(
        self, api: ApiClient
    ) -> None:
        ann = api.register_user("13800000001")
        wrong_response = log_in(api, ann.phone, "wrong-1")
        for _ in range(3):
            limited_response = log_in(api, ann.phone)
        assert limited_response.body == WRONG_PASSWORD
        assert limited_response.error == wrong_response.error
        assert limited_response.headers.keys() == wrong_response.headers.keys()


class TestNewAddresses:
    """Attempts from new addresses count together for the account."""

    @pytest.fixture
    def api(self, new_app: Callable[..., App]) -> ApiClient:
        return ApiClient(new_app(limits__login_new_addresses="5 per minute"))

    @pytest.fixture
    def ann(self, api: ApiClient) -> UserClient:
        ann = api.register_user("13800000001")
        assert log_in(api, ann.phone, address=OTHER_ADDRESS).result == "0000"
        return ann

    def guess_from_new_addresses(
        self, api: ApiClient, phone: str, password: str = "wrong-1"
    ) -> list[str]:
        return [
            log_in(api, phone, password, address=f"2001:db8:0:{n:x}::1").result for n in range(20)
        ]

    def test_guesses_from_changing_addresses_are_limited_per_account(
        self, api: ApiClient, ann: UserClient, compared_passwords: list[str]
    ) -> None:
        compared_passwords.clear()
        assert set(self.guess_from_new_addresses(api, ann.phone)) == {"0008"}
        assert len(compared_passwords) == 4  # the login of the fixture counts too
        # The right password is refused, too: an attacker learns nothing from the response.
        assert log_in(api, ann.phone, address="2001:db8:1::1").body == WRONG_PASSWORD

    def test_owner_logs_in_from_a_usual_address_during_the_guesses(
        self, api: ApiClient, ann: UserClient
    ) -> None:
        self.guess_from_new_addresses(api, ann.phone)
        for _ in range(3):
            assert log_in(api, ann.phone, address=OTHER_ADDRESS).result == "0000"
        # The address of the registration is a usual address.
        assert api.log_in(ann.phone).friends() == []

    def test_unregistered_phone_has_the_same_limit(
        self, api: ApiClient, compared_passwords: list[str]
    ) -> None:
        results = self.guess_from_new_addresses(api, "13800000077")
        assert results == ["0007"] * 5 + ["0008"] * 15
        assert len(compared_passwords) == 5

    def test_registration_is_possible_during_the_guesses(self, api: ApiClient) -> None:
        self.guess_from_new_addresses(api, "13800000077")
        assert api.register_user("13800000077").friends() == []

    def test_successful_logins_from_changing_addresses_are_limited(
        self, api: ApiClient, ann: UserClient
    ) -> None:
        results = self.guess_from_new_addresses(api, ann.phone, PASSWORD)
        assert results == ["0000"] * 4 + ["0008"] * 16

    def test_account_has_at_most_ten_usual_addresses(
        self, api: ApiClient, ann: UserClient, database_state: DatabaseState
    ) -> None:
        for n in range(12):
            database_state.execute("DELETE FROM rate_limit_counters")
            assert log_in(api, ann.phone, address=f"198.51.100.{n + 100}").result == "0000"
            # The address that is used between the others stays a usual address.
            assert log_in(api, ann.phone, address=OTHER_ADDRESS).result == "0000"
        (row,) = database_state.rows("login_addresses")
        assert len(row["digests"]) == 10
        self.guess_from_new_addresses(api, ann.phone)
        assert log_in(api, ann.phone, address=OTHER_ADDRESS).result == "0000"
        assert log_in(api, ann.phone, address="198.51.100.100").result == "0008"

    def test_stored_addresses_are_digests_that_differ_between_accounts(
        self, api: ApiClient, ann: UserClient, database_state: DatabaseState
    ) -> None:
        api.register_user("13800000002")
        rows = database_state.rows("login_addresses")
        digests = [digest for row in rows for digest in row["digests"]]
        assert len(digests) == len(set(digests)) == 3
        assert all(len(digest) == 16 for digest in digests)

    def test_new_password_forgets_the_other_addresses(
        self, api: ApiClient, ann: UserClient, database_state: DatabaseState
    ) -> None:
        form = {"change": "1", "oldPassword": PASSWORD, "password": "another-42"}
        assert ann.post("/log", **form).result == "0000"
        (row,) = database_state.rows("login_addresses")
        assert len(row["digests"]) == 1

    def test_address_of_a_password_reset_becomes_a_usual_address(
        self, api: ApiClient, ann: UserClient
    ) -> None:
        self.guess_from_new_addresses(api, ann.phone)
        address = {"REMOTE_ADDR": "198.51.100.77"}
        code = api.post("/log", forgot="1", userId=ann.phone).message
        form = {"reset": "1", "userId": ann.phone, "code_v": code, "code": code}
        new_password = "another-42"
        response = api.post_form("/log", {**form, "password": new_password}, extra_environ=address)
        assert response.result == "0000"
        assert log_in(api, ann.phone, new_password, "198.51.100.77").result == "0000"

    def test_removed_account_has_no_addresses(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        assert ann.post("/register", remove="1", password=PASSWORD).result == "0000"
        assert database_state.rows("login_addresses") == []

    def test_no_address_is_stored_without_the_limit(
        self, new_app: Callable[..., App], database_state: DatabaseState
    ) -> None:
        api = ApiClient(new_app())
        api.log_in(api.register_user("13800000001").phone)
        assert database_state.rows("login_addresses") == []
