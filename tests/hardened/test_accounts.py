"""Tests of invalid registrations and of many concurrent logins."""

from collections.abc import Callable
from functools import partial
from typing import Any

import bcrypt
import pytest

from livebackend.services.password_hashing import PasswordHasher
from tests.support.api import (
    PASSWORD,
    ApiClient,
    ApiResponse,
    App,
    PhoneClient,
    UserClient,
    run_concurrently,
    sorted_results,
)
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.pictures import PNG, upload
from tests.support.statements import record_statements


@pytest.fixture
def hashed_passwords(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that the application has hashed."""
    recorded_passwords: list[str] = []
    compute_hash = PasswordHasher.hash

    def record_and_hash(self: PasswordHasher, password: str) -> str:
        recorded_passwords.append(password)
        return compute_hash(self, password)

    monkeypatch.setattr(PasswordHasher, "hash", record_and_hash)
    return recorded_passwords


@pytest.mark.parametrize(
    "changed_parameters",
    [
        pytest.param({"password": ""}, id="no password"),
        pytest.param({"password": "abcd123"}, id="seven characters"),
        pytest.param({"password": "abcdefgh"}, id="letters only"),
        pytest.param({"password": "90718253"}, id="digits only"),
        pytest.param({"password": "пароль１２３"}, id="letters with full-width digits"),
        pytest.param({"password": "a1" * 64 + "b"}, id="password of 129 characters"),
        pytest.param({"password": "a1" * 30_000}, id="password of 60 kB"),
        pytest.param({"password": "harbour\0-42"}, id="password with NUL"),
        pytest.param({"password": "a1234567"}, id="common password"),
        pytest.param({"password": "13800000001a"}, id="password contains the phone"),
        pytest.param({"nickname": "   "}, id="blank nickname"),
        pytest.param({"gender": "2"}, id="invalid gender"),
        pytest.param({"userId": "13800000002"}, id="phone of another user"),
    ],
)
def test_registration_with_an_invalid_parameter_returns_0006_and_computes_no_hash(
    changed_parameters: dict[str, str],
    phone_of_ann: PhoneClient,
    hashed_passwords: list[str],
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    phone_of_ann.verify()
    account = {"register": "1", "userId": phone_of_ann.number, "password": PASSWORD}
    with assert_no_side_effects():
        response = phone_of_ann.post("/register", **{**account, **changed_parameters})
    assert (response.status, response.body) == (200, {"result": "0006", "message": None})
    assert hashed_passwords == []
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
        "PICTURE_OF_BEN",
        "PICTURE_OF_BEN/..",
        "OWN_PICTURE?",
        "OWN_PICTURE#x",
        " OWN_PICTURE",
    ],
)
def test_registration_with_a_picture_that_is_not_an_own_upload_returns_0006(
    picture: str,
    api: ApiClient,
    phone_of_ann: PhoneClient,
    phone_of_ben: PhoneClient,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    own_picture, picture_of_ben = upload(api, PNG).message, upload(api, PNG).message
    phone_of_ben.register(headImage=picture_of_ben)
    phone_of_ann.verify()
    account = {"register": "1", "userId": phone_of_ann.number, "password": PASSWORD}
    location = picture.replace("PICTURE_OF_BEN", picture_of_ben)
    location = location.replace("OWN_PICTURE", own_picture)
    with assert_no_side_effects():
        response = phone_of_ann.post("/register", **account, headImage=location)
    assert (response.result, response.error) == ("0006", "headImage; reason=unknown_picture")
    assert phone_of_ann.post("/register", **account, headImage=own_picture).result == "0000"


def test_registration_ignores_unknown_parameters(
    phone_of_ann: PhoneClient, ben: UserClient, database_state: DatabaseState
) -> None:
    unknown_parameters = {
        "coins": "1000",
        "id": "1",
        "token_version": "9",
        "is_admin": "1",
        "public_id": "u_00000000000000000000",
        "publicId": "u_00000000000000000000",
        "nickname": "Ben",
    }
    ann = phone_of_ann.register(**unknown_parameters)
    unique_columns = {"id", "phone", "password_hash", "created_at", "public_id"}
    row_of_ben, row_of_ann = (
        {name: value for name, value in row.items() if name not in unique_columns}
        for row in database_state.rows("accounts")
    )
    assert row_of_ann == row_of_ben
    assert database_state.coins(ann) == 0
    assert "u_00000000000000000000" not in str(database_state.rows("accounts"))


def test_login_with_a_corrupt_password_hash_returns_0008_and_logs_an_error(
    ann: UserClient,
    ben: UserClient,
    api: ApiClient,
    database_state: DatabaseState,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for corrupt_hash in ("", "x", "$2b$12$short", "$2b$99$" + "." * 53):
        database_state.execute(
            f"UPDATE accounts SET password_hash = '{corrupt_hash}' WHERE phone = '{ann.phone}'"
        )
        caplog.clear()
        response = api.post("/log", userId=ann.phone, password=PASSWORD)
        assert (response.status, response.body) == (200, {"result": "0008", "message": None})
        assert [record.levelname for record in caplog.records] == ["ERROR"] * (corrupt_hash != "")
    assert api.log_in(ben.phone).friends() == ann.friends() == []


@pytest.fixture
def limited_app(new_hardened_app: Callable[..., App]) -> App:
    """An application with one database connection that hashes one password at a time."""
    return new_hardened_app(
        passwords__max_concurrent="1", passwords__queue_timeout_s="0.5", database__connections="1"
    )


def test_logins_that_wait_for_password_hashing_hold_no_database_connection(
    limited_app: App, ann: UserClient
) -> None:
    log_in = partial(ApiClient(limited_app).post, "/log", userId=ann.phone, password=PASSWORD)
    request_friend_list = partial(
        ApiClient(limited_app).post, "/list", friendlist="1", token=ann.token
    )
    with limited_app.registry.services.password_hashing.acquire():
        responses = run_concurrently(*[log_in] * 10, *[request_friend_list] * 2)
    assert [(response.status, response.result) for response in responses] == [
        *[(503, "0008")] * 10,
        *[(200, "0000")] * 2,
    ]
    assert log_in().result == "0000"


def test_hundred_concurrent_logins_return_0000_or_503(
    new_hardened_app: Callable[..., App], ann: UserClient
) -> None:
    app = new_hardened_app(
        passwords__max_concurrent="1",
        passwords__queue_timeout_s="1",
        limits__password_hashes_account="",
        limits__password_hashes_address="",
    )
    log_in = partial(ApiClient(app).post, "/log", userId=ann.phone, password=PASSWORD)
    responses = run_concurrently(*[log_in] * 100)
    assert {(response.status, response.result) for response in responses} <= {
        (200, "0000"),
        (503, "0008"),
    }
    assert "0000" in sorted_results(responses)
    assert log_in().result == "0000"


class TestHashLimits:
    """Every operation counts a password hash before it waits for a permit."""

    @pytest.fixture
    def api(self, new_hardened_app: Callable[..., App]) -> ApiClient:
        return ApiClient(new_hardened_app(limits__password_hashes_address="2 per minute"))

    @pytest.fixture
    def computed_hashes(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the bcrypt functions that the application has called."""
        calls: list[str] = []
        for name in ("hashpw", "checkpw"):
            function = partial(_record_and_call, calls, name, getattr(bcrypt, name))
            monkeypatch.setattr(bcrypt, name, function)
        return calls

    def reset(self, api: ApiClient, database_state: DatabaseState, **changes: str) -> ApiResponse:
        database_state.execute("DELETE FROM rate_limit_counters WHERE key LIKE 'sms%'")
        phone = PhoneClient(api.app, "13800000001")
        ticket = api.post("/log", forgot="1", userId=phone.number).message
        form = {"code_v": ticket, "code": phone.received_codes[-1], "password": "another-42"}
        return api.post("/log", reset="1", userId=phone.number, **{**form, **changes})

    def test_operation_over_the_limit_computes_no_hash_and_changes_nothing(
        self,
        api: ApiClient,
        ann: UserClient,
        phone_of_ben: PhoneClient,
        computed_hashes: list[str],
        database_state: DatabaseState,
    ) -> None:
        phone_of_ben.verify()
        for _ in range(2):
            assert api.post("/log", userId=ann.phone, password="wrong-42").result == "0008"
        computed_hashes.clear()
        accounts = database_state.rows("accounts")
        ann = ann.with_app(api.app)
        register = {"register": "1", "userId": phone_of_ben.number, "password": PASSWORD}
        change = {"change": "1", "oldPassword": PASSWORD, "password": "another-42"}
        responses = {
            "log_in": api.post("/log", userId=ann.phone, password=PASSWORD),
            "register": api.post("/register", **register),
            "change_password": ann.post("/log", **change),
            "reset_password": self.reset(api, database_state),
            "remove": ann.post("/register", remove="1", password=PASSWORD),
        }
        assert computed_hashes == []
        assert database_state.rows("accounts") == accounts
        errors = {name: (response.result, response.error) for name, response in responses.items()}
        assert errors == {
            "log_in": ("0008", "password; reason=wrong_password"),
            "register": ("0006", "request; reason=rate_limited"),
            "change_password": ("0008", "oldPassword; reason=wrong_password"),
            "reset_password": ("0006", "request; reason=rate_limited"),
            "remove": ("0008", "password; reason=wrong_password"),
        }
        # A refused operation uses up neither the verification nor the code.
        assert 0 < int(responses["register"].headers["Retry-After"]) <= 60
        database_state.execute("DELETE FROM rate_limit_counters")
        assert api.post("/register", **register).result == "0000"

    def test_reset_with_a_wrong_code_computes_no_hash_and_counts_none(
        self,
        api: ApiClient,
        ann: UserClient,
        computed_hashes: list[str],
        database_state: DatabaseState,
    ) -> None:
        database_state.execute("DELETE FROM rate_limit_counters")
        for n in range(4):
            response = self.reset(api, database_state, code=f"00000{n}")
            assert response.error == "code; reason=wrong_code"
            assert self.reset(api, database_state, code_v="x").result == "0004"
        assert computed_hashes == []
        counters = database_state.rows("rate_limit_counters")
        assert not any(row["key"].startswith("password_hashes") for row in counters)
        assert self.reset(api, database_state).result == "0000"
        assert computed_hashes == ["hashpw"]

    def test_concurrent_resets_with_one_code_set_one_password(
        self, new_hardened_app: Callable[..., App], ann: UserClient, database_state: DatabaseState
    ) -> None:
        app = new_hardened_app()
        database_state.execute("DELETE FROM rate_limit_counters")
        phone = PhoneClient(app, ann.phone)
        ticket = phone.post("/log", forgot="1", userId=ann.phone).message
        form = {"reset": "1", "userId": ann.phone, "code_v": ticket}
        form["code"] = phone.received_codes[-1]
        resets = [partial(phone.post, "/log", **form, password=f"another-{n}42") for n in range(8)]
        assert sorted_results(run_concurrently(*resets)) == ["0000"] + ["0004"] * 7
        logins = [phone.post("/log", userId=ann.phone, password=f"another-{n}42") for n in range(8)]
        assert sorted_results(logins) == ["0000"] + ["0008"] * 7


def _record_and_call(
    calls: list[str], name: str, function: Callable[..., Any], *arguments: Any
) -> Any:
    calls.append(name)
    return function(*arguments)


class TestForgottenPassword:
    """The response for a registered phone does not depend on the SMS provider."""

    @pytest.fixture
    def app(self, new_hardened_app: Callable[..., App]) -> App:
        return new_hardened_app(sms__gateway="tests.support.fake_gateways.BlockedSms")

    def request_code(self, app: App, phone: str) -> ApiResponse:
        return ApiClient(app).post("/log", forgot="1", userId=phone)

    def test_response_does_not_wait_for_the_gateway(
        self, app: App, hardened_app: App, database_state: DatabaseState
    ) -> None:
        ann = PhoneClient(hardened_app, "13800000001").register()
        database_state.execute("DELETE FROM rate_limit_counters")
        sms: Any = app.registry.services.gateways.sms
        with sms.blocked():
            with record_statements() as statements_of_registered:
                registered = self.request_code(app, ann.phone)
            with record_statements() as statements_of_unregistered:
                unregistered = self.request_code(app, "13800000077")
            assert sms.sent_count == 0
        assert registered.result == unregistered.result == "0000"
        assert registered.headers.keys() == unregistered.headers.keys()
        assert statements_of_registered == statements_of_unregistered
        assert app.registry.services.sms_queue.wait_until_empty(10)
        assert sms.sent_count == 1

    def test_failed_message_is_stored_and_not_revealed(
        self, app: App, hardened_app: App, database_state: DatabaseState
    ) -> None:
        ann = PhoneClient(hardened_app, "13800000001").register()
        database_state.execute("DELETE FROM rate_limit_counters")
        sms: Any = app.registry.services.gateways.sms
        with sms.failing():
            responses = {
                phone: self.request_code(app, phone) for phone in (ann.phone, "13800000077")
            }
            assert app.registry.services.sms_queue.wait_until_empty(10)
        states = {
            row["phone"]: row["state"]
            for row in database_state.rows("verification_codes")
            if row["purpose"] == "reset"
        }
        assert states == {ann.phone: "failed", "13800000077": "sent"}
        for phone, response in responses.items():
            form = {"reset": "1", "userId": phone, "code_v": response.message, "code": "x"}
            results = [
                ApiClient(app).post("/log", **form, password="another-42").result for _ in range(6)
            ]
            assert results == ["0004"] * 4 + ["0005"] * 2
