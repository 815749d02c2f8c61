"""Tests of code requests, code verification and registration."""

from collections.abc import Callable

import pytest

from livebackend.container import Services
from livebackend.development.sms import DevelopmentSms
from livebackend.services.code_verifiers import Purpose
from tests.support.api import PASSWORD, ApiClient, App, UserClient
from tests.support.database_state import DatabaseState
from tests.support.pictures import upload

PHONE = "13800000009"
REGISTRATION = {"register": "1", "userId": PHONE, "password": PASSWORD}


class TestSendCode:
    def test_code_request_sends_a_code_of_four_digits(
        self, api: ApiClient, sms: DevelopmentSms
    ) -> None:
        response = api.post("/register", token=PHONE)
        assert response.body == {"result": "0000", "message": response.message}
        assert len(response.message) == 4
        assert response.message.isdecimal()
        assert list(sms.sent) == [(PHONE, response.message)]

    def test_code_request_stores_only_a_digest_of_the_code(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        code = api.post("/register", token=PHONE).message
        (row,) = database_state.rows("verification_codes")
        assert row["state"] == "sent"
        assert code.encode() not in row["digest"]

    def test_new_codes_can_have_leading_zeros(self, api: ApiClient, services: Services) -> None:
        codes = [services.verification_codes.new_code(Purpose.REGISTER) for _ in range(2000)]
        assert {len(code) for code in codes} == {4}
        assert any(code.startswith("0") for code in codes)

    def test_code_request_accepts_user_id_as_an_alias_of_token(
        self, api: ApiClient, sms: DevelopmentSms
    ) -> None:
        assert api.post("/register", userId=PHONE).result == "0000"
        assert sms.sent[0].phone == PHONE
        assert api.post("/register", userId=PHONE, token=PHONE).result == "0000"

    def test_code_request_for_a_registered_phone_returns_0001_and_sends_no_message(
        self, ann: UserClient, api: ApiClient, database_state: DatabaseState, sms: DevelopmentSms
    ) -> None:
        with database_state.assert_unchanged():
            response = api.post("/register", token=ann.phone)
        assert response.body == {"result": "0001", "message": None}
        assert response.error == "token; reason=already_registered"
        assert not sms.sent

    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"token": ""},
            {"token": "1380000000"},
            {"token": "138000000091"},
            {"token": "1380000000a"},
            {"token": " 13800000009"},
            {"token": "13800000009\n"},
            {"token": "１３８００００００００９"},
            {"token": "1380000000\0"},
            {"token": PHONE, "userId": "13800000008"},
            {"token": PHONE, "userId": "not-a-phone"},
            # Registration parameters without the selector `register=1`.
            {"userId": PHONE, "password": PASSWORD},
            {"userId": PHONE, "gender": "1"},
            {"userId": PHONE, "nickname": "Ann"},
            {"userId": PHONE, "headImage": "a.jpg"},
            {"register": "0", "userId": PHONE},
            {"register": "0", "token": PHONE},
            {"register": "", "token": PHONE},
            {"register": "01", "token": PHONE},
            {"register": "0"},
        ],
    )
    def test_code_request_with_invalid_parameters_returns_0002_and_sends_no_message(
        self,
        form: dict[str, str],
        api: ApiClient,
        database_state: DatabaseState,
        sms: DevelopmentSms,
    ) -> None:
        with database_state.assert_unchanged():
            response = api.post("/register", **form)
        assert (response.status, response.body) == (200, {"result": "0002", "message": None})
        assert not sms.sent

    def test_code_request_with_a_token_ignores_registration_parameters(
        self, api: ApiClient
    ) -> None:
        for user_id in ("13800000008", "not-a-phone"):
            form = {"token": PHONE, "userId": user_id, "password": PASSWORD}
            assert api.post("/register", **form).result == "0000"

    def test_code_request_when_the_sms_gateway_fails_marks_the_code_failed(
        self, new_app: Callable[..., App], database_state: DatabaseState
    ) -> None:
        api = ApiClient(new_app(sms__gateway="tests.support.fake_gateways.FailingSms"))
        response = api.post("/register", token=PHONE)
        assert response.body == {"result": "0002", "message": None}
        assert response.error == "message; reason=upstream_failed"
        assert [row["state"] for row in database_state.rows("verification_codes")] == ["failed"]

    def test_code_request_logs_only_the_masked_phone(
        self, api: ApiClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("INFO", logger="livebackend"):
            code = api.post("/register", token=PHONE).message
        assert code in caplog.text
        assert "138****0009" in caplog.text
        assert PHONE not in caplog.text


class TestVerifyCode:
    def test_code_equal_to_code_v_returns_0000_in_development_mode(self, api: ApiClient) -> None:
        response = api.post("/register", code_v="0123", code="0123")
        assert response.body == {"result": "0000", "message": None}

    def test_correct_code_verifies_the_phone(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        code = api.post("/register", token=PHONE).message
        assert api.post("/register", code_v=code, code=code).result == "0000"
        assert [row["state"] for row in database_state.rows("verification_codes")] == ["verified"]

    def test_expired_code_verifies_no_phone(
        self,
        new_app: Callable[..., App],
        api: ApiClient,
        database_state: DatabaseState,
        services: Services,
    ) -> None:
        code = api.post("/register", token=PHONE).message
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE verification_codes SET expires_at = now() - interval '1 second'"
            )
        with database_state.assert_unchanged():
            assert api.post("/register", code_v=code, code=code).result == "0000"

    @pytest.mark.parametrize(
        "form",
        [
            {"code_v": "1234", "code": "1235"},
            {"code_v": "1234", "code": ""},
            {"code_v": "1234"},
            {"code": "1234"},
            {"code": ""},
            {"code_v": ""},
            {"code_v": "", "code": ""},
            {"code_v": "12345", "code": "12345"},
            {"code_v": "１２３４", "code": "１２３４"},
            {"code_v": "abcd", "code": "abcd"},
            {"code_v": "12\0", "code": "12\0"},
            {"code_v": "1234", "code": "1235", "token": PHONE},
        ],
    )
    def test_wrong_or_malformed_code_returns_0004(
        self, form: dict[str, str], api: ApiClient, sms: DevelopmentSms
    ) -> None:
        response = api.post("/register", **form)
        assert (response.status, response.body) == (200, {"result": "0004", "message": None})
        assert response.error == "code; reason=wrong_code"
        assert not sms.sent

    def test_fifth_and_later_wrong_codes_return_0005(self, api: ApiClient) -> None:
        results = [api.post("/register", code_v="1234", code=f"000{n}").result for n in range(7)]
        assert results == ["0004"] * 4 + ["0005"] * 3

    def test_malformed_codes_count_as_wrong_attempts(self, api: ApiClient) -> None:
        for code in ("", "12345", "abcd", "１２３４"):
            assert api.post("/register", code_v="1234", code=code).result == "0004"
        assert api.post("/register", code_v="1234", code="0000").result == "0005"

    def test_wrong_attempts_are_counted_per_code(self, api: ApiClient) -> None:
        for _ in range(5):
            api.post("/register", code_v="1234", code="0000")
        assert api.post("/register", code_v="1235", code="0000").result == "0004"

    def test_codes_without_code_v_are_not_counted_as_attempts(self, api: ApiClient) -> None:
        results = [api.post("/register", code="0000").result for n in range(6)]
        assert results == ["0004"] * 6

    def test_correct_code_resets_the_count_of_wrong_attempts(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        for _ in range(6):
            api.post("/register", code_v="1234", code="0000")
        assert api.post("/register", code_v="1234", code="1234").result == "0000"
        assert database_state.rows("code_attempts") == []
        assert api.post("/register", code_v="1234", code="0000").result == "0004"

    def test_wrong_attempts_older_than_five_minutes_do_not_count(
        self, api: ApiClient, services: Services
    ) -> None:
        for _ in range(5):
            api.post("/register", code_v="1234", code="0000")
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE code_attempts SET"
                " attempted_at[1] = attempted_at[1] - interval '301 seconds',"
                " attempted_at[2] = attempted_at[2] - interval '301 seconds'"
            )
        results = [api.post("/register", code_v="1234", code="0000").result for _ in range(2)]
        assert results == ["0004", "0005"]

    def test_code_sent_as_a_file_returns_0004(self, api: ApiClient) -> None:
        files = [("code_v", "1234", b"1234"), ("code", "1234", b"1234")]
        response = api.post_form("/register", {}, upload_files=files)
        assert response.body == {"result": "0004", "message": None}


class TestRegister:
    def test_registration_creates_an_account_with_its_profile_and_no_coins(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        profile = {"nickname": "安", "gender": "0", "headImage": "/somewhere/a.jpg"}
        response = api.post("/register", **REGISTRATION, **profile)
        assert response.body == {"result": "0000", "message": None}
        (account,) = database_state.rows("accounts")
        assert account["phone"] == PHONE
        assert (account["nickname"], account["gender"]) == ("安", "0")
        assert account["head_image"] == "/somewhere/a.jpg"
        assert PASSWORD not in account["password_hash"]
        assert [row["amount"] for row in database_state.rows("coin_slots")] == [0]

    def test_registration_stores_empty_profile_fields_as_null(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        assert (
            api.post("/register", **REGISTRATION, nickname="", gender="", headImage="").result
            == "0000"
        )
        (account,) = database_state.rows("accounts")
        assert account["nickname"] is account["gender"] is account["head_image"] is None

    def test_registration_of_a_registered_phone_returns_0006(
        self, ann: UserClient, api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = api.post("/register", **{**REGISTRATION, "userId": ann.phone})
        assert response.body == {"result": "0006", "message": None}
        assert response.error == "userId; reason=already_registered"

    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            ("userId", "", "missing"),
            ("userId", "1380000000", "not_a_phone_number"),
            ("userId", "１３８００００００００９", "not_a_phone_number"),
            ("password", "", "missing"),
            ("password", "abcd123", "too_short; min=8"),
            ("password", "a1" * 65, "too_long; max=128"),
            ("password", "abcdefgh", "weak_password"),
            ("password", "12345678", "weak_password"),
            ("password", "abcdefg１", "weak_password"),
            ("password", "abcd1234\0", "control_character"),
            ("password", "abcd1234\n", "control_character"),
            ("gender", "2", "invalid_value"),
            ("gender", "１", "invalid_value"),
            ("nickname", "n" * 33, "too_long; max=32"),
            ("nickname", "a\u0085", "control_character"),
            ("nickname", "a\u202eb", "control_character"),
            ("nickname", "   ", "missing"),
            ("headImage", "h" * 256, "too_long; max=255"),
            ("headImage", "a\tb", "control_character"),
        ],
    )
    def test_registration_with_an_invalid_parameter_returns_0006(
        self,
        name: str,
        value: str,
        reason: str,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        with database_state.assert_unchanged():
            response = api.post("/register", **{**REGISTRATION, name: value})
        assert (response.status, response.body) == (200, {"result": "0006", "message": None})
        assert response.error == f"{name}; reason={reason}"

    @pytest.mark.parametrize("name", ["userId", "password"])
    def test_registration_without_a_required_parameter_returns_0006(
        self, name: str, api: ApiClient, database_state: DatabaseState
    ) -> None:
        form = {key: value for key, value in REGISTRATION.items() if key != name}
        with database_state.assert_unchanged():
            response = api.post("/register", **form)
        assert (response.result, response.error) == ("0006", f"{name}; reason=missing")

    @pytest.mark.parametrize(
        "password", ["密码密码密码密1", " abcd 1234 ", "a1" * 64, "é1345678", "密1" * 64]
    )
    def test_registration_uses_the_password_exactly_as_sent(
        self, password: str, api: ApiClient
    ) -> None:
        assert api.post("/register", **{**REGISTRATION, "password": password}).result == "0000"
        assert api.post("/log", userId=PHONE, password=password).result == "0000"
        assert api.post("/log", userId=PHONE, password=password.strip()).result == (
            "0000" if password == password.strip() else "0008"
        )
        assert api.post("/log", userId=PHONE, password=password[:-1]).result == "0008"

    def test_registration_with_a_file_as_nickname_returns_0006(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        files = [("nickname", "n.txt", b"Ann")]
        with database_state.assert_unchanged():
            response = api.post_form("/register", REGISTRATION, upload_files=files)
        assert response.result == "0006"

    def test_registration_with_an_uploaded_picture_assigns_it_to_the_account(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        upload_response = upload(api, b"png")
        assert (
            api.post("/register", **REGISTRATION, headImage=upload_response.message).result
            == "0000"
        )
        (picture,) = database_state.rows("pictures")
        assert picture["account_id"] == database_state.rows("accounts")[0]["id"]


class TestRequiredVerification:
    @pytest.fixture
    def app(self, new_app: Callable[..., App]) -> App:
        return new_app(register__verified_phone="required")

    def verify_phone(self, api: ApiClient) -> None:
        code = api.post("/register", token=PHONE).message
        assert api.post("/register", code_v=code, code=code).result == "0000"

    def test_registration_with_an_unverified_phone_returns_0006(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = api.post("/register", **REGISTRATION)
        assert response.body == {"result": "0006", "message": None}
        assert response.error == "userId; reason=phone_not_verified"
        self.verify_phone(api)
        assert api.post("/register", **REGISTRATION).result == "0000"

    def test_registration_marks_all_codes_of_the_phone_used(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        self.verify_phone(api)
        self.verify_phone(api)
        assert api.post("/register", **REGISTRATION).result == "0000"
        assert {row["state"] for row in database_state.rows("verification_codes")} == {"used"}

    def test_registration_15_minutes_after_the_verification_returns_0006(
        self, api: ApiClient, services: Services, database_state: DatabaseState
    ) -> None:
        self.verify_phone(api)
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE verification_codes SET verified_at = now() - interval '15 minutes'"
            )
        with database_state.assert_unchanged():
            assert api.post("/register", **REGISTRATION).result == "0006"

    def test_failed_registration_keeps_the_verification(self, api: ApiClient) -> None:
        self.verify_phone(api)
        assert api.post("/register", **{**REGISTRATION, "gender": "2"}).result == "0006"
        assert api.post("/register", **REGISTRATION).result == "0000"


class TestRequiredUploadedPicture:
    @pytest.fixture
    def app(self, new_app: Callable[..., App]) -> App:
        return new_app(pictures__require_uploaded="true")

    def test_registration_with_the_picture_of_another_account_returns_0006(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        upload_response = upload(api, b"png")
        assert (
            api.post("/register", **REGISTRATION, headImage=upload_response.message).result
            == "0000"
        )
        other_registration = {**REGISTRATION, "userId": "13800000008"}
        with database_state.assert_unchanged():
            response = api.post(
                "/register", **other_registration, headImage=upload_response.message
            )
        assert (response.result, response.error) == ("0006", "headImage; reason=unknown_picture")

    def test_registration_with_a_picture_that_was_not_uploaded_returns_0006(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert api.post("/register", **REGISTRATION, headImage="/etc/passwd").result == "0006"
