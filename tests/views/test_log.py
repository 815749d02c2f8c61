"""Tests of login and of login tokens."""

import re
import time

import pytest

from livebackend.api.forms import Form
from livebackend.api.operation_declaration import operations
from livebackend.container import Services
from livebackend.services.login_tokens import CurrentUser, LoginTokens
from livebackend.services.password_hashing import PasswordHasher
from livebackend.views.log import LogIn
from tests.support.api import PASSWORD, ApiClient, App, UserClient
from tests.support.application import DEVELOPMENT_SECRET, replace_services
from tests.support.authenticated_calls import AUTHENTICATED_CALLS
from tests.support.database_state import DatabaseState

DAY_S = 24 * 3600


class TestLogIn:
    def test_login_returns_a_valid_token(self, ann: UserClient, api: ApiClient) -> None:
        response = api.post("/log", userId=ann.phone, password=PASSWORD, expire_in="3600")
        assert response.body == {"result": "0000", "message": response.message}
        assert re.fullmatch(r"[A-Za-z0-9._-]+", response.message)
        assert api.post("/list", friendlist="1", token=response.message).result == "0000"

    def test_second_login_keeps_the_first_token_valid(
        self, ann: UserClient, api: ApiClient
    ) -> None:
        second_client = api.log_in(ann.phone)
        assert second_client.token != ann.token
        assert ann.friends() == second_client.friends() == []

    @pytest.mark.parametrize(
        ("phone", "expected_error"),
        [
            ("13800000077", "userId; reason=unknown_user"),
            ("", "userId; reason=missing"),
            ("1380000000", "userId; reason=not_a_phone_number"),
            ("１３８０００００００１", "userId; reason=not_a_phone_number"),
            ("13800000001\0", "userId; reason=not_a_phone_number"),
        ],
    )
    def test_login_with_an_unknown_or_invalid_phone_returns_0007(
        self,
        phone: str,
        expected_error: str,
        ann: UserClient,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        with database_state.assert_unchanged():
            response = api.post("/log", userId=phone, password=PASSWORD)
        assert (response.status, response.body) == (200, {"result": "0007", "message": None})
        assert response.error == expected_error

    def test_login_without_a_phone_returns_0007(self, api: ApiClient) -> None:
        assert api.post("/log", password=PASSWORD).result == "0007"
        assert api.post("/log").result == "0007"

    @pytest.mark.parametrize(
        "password",
        ["wrong1234", "ABCD1234", "abcd1234 ", "", "a", "abcd1234\0", "a1" * 65, "ａｂｃｄ1234"],
    )
    def test_login_with_a_wrong_password_returns_0008(
        self, password: str, ann: UserClient, api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = api.post("/log", userId=ann.phone, password=password)
        assert (response.status, response.body) == (200, {"result": "0008", "message": None})

    def test_login_without_a_password_returns_0008_for_any_phone(
        self, ann: UserClient, api: ApiClient
    ) -> None:
        assert api.post("/log", userId=ann.phone).result == "0008"
        # The response must not reveal whether a phone is registered.
        assert api.post("/log", userId="13800000077").result == "0008"

    def test_login_computes_one_hash_for_registered_and_unregistered_phones(
        self, ann: UserClient, api: ApiClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checked_hashes = []
        original_verify = PasswordHasher.verify

        def record_and_verify(
            self: PasswordHasher, password: str, password_hash: str | None
        ) -> bool:
            checked_hashes.append(password_hash)
            return original_verify(self, password, password_hash)

        monkeypatch.setattr(PasswordHasher, "verify", record_and_verify)
        api.post("/log", userId=ann.phone, password="wrong1234")
        api.post("/log", userId="13800000077", password="wrong1234")
        assert len(checked_hashes) == 2


class TestTokenLifetime:
    @pytest.mark.parametrize(
        ("expire_in", "lifetime_s"),
        [
            ("3600", 3600),
            ("+3600", 3600),
            ("0003600", 3600),
            (str(30 * DAY_S), 30 * DAY_S),
            (str(30 * DAY_S + 1), 30 * DAY_S),
            ("9" * 5000, 30 * DAY_S),
            ("0", 0),
            ("-0", 0),
            ("-1", 0),
            ("-" + "9" * 5000, 0),
            (None, 7 * DAY_S),
            ("", 7 * DAY_S),
            ("+", 7 * DAY_S),
            ("7天", 7 * DAY_S),
            ("3600.0", 7 * DAY_S),
            ("1e3", 7 * DAY_S),
            (" 3600", 7 * DAY_S),
            ("3_600", 7 * DAY_S),
            ("３６００", 7 * DAY_S),
            ("++1", 7 * DAY_S),
            ("3600\n", 7 * DAY_S),
        ],
    )
    def test_token_lifetime_is_the_requested_number_of_seconds_or_the_default(
        self, expire_in: str | None, lifetime_s: int
    ) -> None:
        form: Form = {"userId": "13800000001", "password": PASSWORD}
        if expire_in is not None:
            form["expire_in"] = expire_in
        parameters = LogIn.parse(form, phone_pattern="[0-9]{11}")
        tokens = LoginTokens(["k" * 32], clock=lambda: 1_000_000.0)
        token = tokens.issue(CurrentUser(7, "13800000001", 3), lifetime_s=parameters.expire_in)
        claims = LoginTokens(["k" * 32], clock=lambda: 999_999.0).read(token)
        assert claims.expires_at == 1_000_000 + lifetime_s

    def test_token_expires_after_the_requested_lifetime(
        self, app: App, ann: UserClient, api: ApiClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = api.log_in(ann.phone, expire_in="100")
        now = time.time()

        def set_clock(timestamp: float) -> None:
            tokens = LoginTokens([DEVELOPMENT_SECRET], clock=lambda: timestamp)
            replace_services(app, monkeypatch, login_tokens=tokens)

        set_clock(now + 98)
        assert user.friends() == []
        set_clock(now + 101)
        response = user.post("/list", friendlist="1")
        assert response.body == {"result": "0011", "message": None}

    @pytest.mark.parametrize("expire_in", ["0", "-5"])
    def test_login_with_a_lifetime_of_zero_or_less_returns_an_expired_token(
        self, expire_in: str, ann: UserClient, api: ApiClient
    ) -> None:
        user = api.log_in(ann.phone, expire_in=expire_in)
        assert user.post("/list", friendlist="1").result == "0011"


def test_authenticated_calls_cover_every_operation_that_needs_a_token(app: App) -> None:
    covered_selectors = {next(iter(form)) for _, form in AUTHENTICATED_CALLS}
    assert covered_selectors == {
        operation.selector for operation in operations(app.registry) if operation.requires_login
    }


@pytest.mark.parametrize(("path", "form"), AUTHENTICATED_CALLS, ids=str)
class TestTokens:
    """Every operation that needs a login token checks the token in the same way."""

    def test_operation_with_an_expired_token_returns_0011(
        self,
        path: str,
        form: dict[str, str],
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        expired_client = api.log_in(ann.phone, expire_in="0")
        with database_state.assert_unchanged():
            response = expired_client.post(path, **form)
        assert (response.status, response.result, response.error) == (
            200,
            "0011",
            "token; reason=token_expired",
        )

    def test_operation_without_a_token_returns_0012(
        self,
        path: str,
        form: dict[str, str],
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        with database_state.assert_unchanged():
            response_without_token, response_with_empty_token = (
                api.post(path, **form),
                api.post(path, **form, token=""),
            )
        assert response_without_token.result == response_with_empty_token.result == "0012"
        assert response_without_token.error == "token; reason=missing"

    def test_operation_with_a_forged_token_returns_0012(
        self,
        path: str,
        form: dict[str, str],
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        tampered_token = ("B" if ann.token[-10] == "A" else "A").join(
            [ann.token[:-10], ann.token[-9:]]
        )
        with database_state.assert_unchanged():
            for token in (
                tampered_token,
                ann.token + "x",
                "x",
                "\0",
                "令牌",
                "x" * 60_000,
                ann.phone,
            ):
                response = api.post(path, **form, token=token)
                assert (response.status, response.result) == (200, "0012"), token

    def test_operation_without_token_and_parameters_returns_0012(
        self, path: str, form: dict[str, str], api: ApiClient
    ) -> None:
        selector = next(iter(form))
        assert api.post(path, **{selector: "1"}).result == "0012"

    def test_operation_with_a_token_of_an_older_version_returns_0012(
        self,
        path: str,
        form: dict[str, str],
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        services: Services,
    ) -> None:
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE accounts SET token_version = token_version + 1")
        assert ann.post(path, **form).result == "0012"
        assert api.log_in(ann.phone).post(path, **form).result != "0012"
