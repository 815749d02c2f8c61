"""Sending a code, judging one, and opening an account."""

from collections.abc import Callable

import pytest

from livebackend.container import Services
from livebackend.development.sms import DevelopmentSms
from livebackend.services.code_verifiers import Purpose
from tests.support.api import PASSWORD, Api, App, Person
from tests.support.database_state import DatabaseState

PHONE = "13800000009"
NEW = {"register": "1", "userId": PHONE, "password": PASSWORD}


class TestSendCode:
    def test_a_code_of_four_digits_goes_to_the_phone(self, api: Api, sms: DevelopmentSms) -> None:
        answer = api.post("/register", token=PHONE)
        assert answer.body == {"result": "0000", "message": answer.message}
        assert len(answer.message) == 4
        assert answer.message.isdecimal()
        assert list(sms.sent) == [(PHONE, answer.message)]

    def test_the_code_is_kept_as_a_digest_only(
        self, api: Api, database_state: DatabaseState
    ) -> None:
        code = api.post("/register", token=PHONE).message
        (row,) = database_state.rows("verification_codes")
        assert row["state"] == "sent"
        assert code.encode() not in row["digest"]

    def test_leading_zeros_are_kept(self, api: Api, services: Services) -> None:
        codes = [services.verification_codes.new_code(Purpose.REGISTER) for _ in range(2000)]
        assert {len(code) for code in codes} == {4}
        assert any(code.startswith("0") for code in codes)

    def test_userid_is_an_alias(self, api: Api, sms: DevelopmentSms) -> None:
        assert api.post("/register", userId=PHONE).result == "0000"
        assert sms.sent[0].phone == PHONE
        assert api.post("/register", userId=PHONE, token=PHONE).result == "0000"

    def test_a_registered_phone_gets_no_code(
        self, ann: Person, api: Api, database_state: DatabaseState, sms: DevelopmentSms
    ) -> None:
        with database_state.unchanged():
            answer = api.post("/register", token=ann.phone)
        assert answer.body == {"result": "0001", "message": None}
        assert answer.refusal == "token is registered already"
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
            {"token": PHONE, "userId": "nobody"},
            # A register call that lost its selector.
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
    def test_whatever_stops_the_code_is_0002(
        self, form: dict[str, str], api: Api, database_state: DatabaseState, sms: DevelopmentSms
    ) -> None:
        with database_state.unchanged():
            answer = api.post("/register", **form)
        assert (answer.status, answer.body) == (200, {"result": "0002", "message": None})
        assert not sms.sent

    def test_what_a_register_call_holds_does_not_stop_a_token(self, api: Api) -> None:
        for user_id in ("13800000008", "nobody"):
            form = {"token": PHONE, "userId": user_id, "password": PASSWORD}
            assert api.post("/register", **form).result == "0000"

    def test_a_code_that_could_not_be_sent_is_void(
        self, new_app: Callable[..., App], database_state: DatabaseState
    ) -> None:
        api = Api(new_app(sms__gateway="tests.support.fake_gateways.BrokenSms"))
        answer = api.post("/register", token=PHONE)
        assert answer.body == {"result": "0002", "message": None}
        assert answer.refusal == "message could not be done outside"
        assert [row["state"] for row in database_state.rows("verification_codes")] == ["failed"]

    def test_the_log_shows_no_whole_phone(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO", logger="livebackend"):
            code = api.post("/register", token=PHONE).message
        assert code in caplog.text
        assert "138****0009" in caplog.text
        assert PHONE not in caplog.text


class TestVerifyCode:
    def test_the_same_four_digits_are_right(self, api: Api) -> None:
        answer = api.post("/register", code_v="0123", code="0123")
        assert answer.body == {"result": "0000", "message": None}

    def test_a_right_code_verifies_its_phone(self, api: Api, database_state: DatabaseState) -> None:
        code = api.post("/register", token=PHONE).message
        assert api.post("/register", code_v=code, code=code).result == "0000"
        assert [row["state"] for row in database_state.rows("verification_codes")] == ["verified"]

    def test_a_code_that_has_expired_verifies_nothing(
        self,
        new_app: Callable[..., App],
        api: Api,
        database_state: DatabaseState,
        services: Services,
    ) -> None:
        code = api.post("/register", token=PHONE).message
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE verification_codes SET expires_at = now() - interval '1 second'"
            )
        with database_state.unchanged():
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
    def test_anything_else_is_0004(
        self, form: dict[str, str], api: Api, sms: DevelopmentSms
    ) -> None:
        answer = api.post("/register", **form)
        assert (answer.status, answer.body) == (200, {"result": "0004", "message": None})
        assert answer.refusal == "code is wrong"
        assert not sms.sent

    def test_the_fifth_wrong_try_and_all_after_it_are_0005(self, api: Api) -> None:
        tries = [api.post("/register", code_v="1234", code=f"000{n}").result for n in range(7)]
        assert tries == ["0004"] * 4 + ["0005"] * 3

    def test_a_malformed_try_counts_too(self, api: Api) -> None:
        for code in ("", "12345", "abcd", "１２３４"):
            assert api.post("/register", code_v="1234", code=code).result == "0004"
        assert api.post("/register", code_v="1234", code="0000").result == "0005"

    def test_each_code_has_its_own_count(self, api: Api) -> None:
        for _ in range(5):
            api.post("/register", code_v="1234", code="0000")
        assert api.post("/register", code_v="1235", code="0000").result == "0004"

    def test_tries_at_nothing_have_no_count(self, api: Api) -> None:
        tries = [api.post("/register", code="0000").result for n in range(6)]
        assert tries == ["0004"] * 6

    def test_a_right_try_clears_the_count(self, api: Api, database_state: DatabaseState) -> None:
        for _ in range(6):
            api.post("/register", code_v="1234", code="0000")
        assert api.post("/register", code_v="1234", code="1234").result == "0000"
        assert database_state.rows("code_attempts") == []
        assert api.post("/register", code_v="1234", code="0000").result == "0004"

    def test_only_the_tries_of_the_last_five_minutes_count(
        self, api: Api, services: Services
    ) -> None:
        for _ in range(5):
            api.post("/register", code_v="1234", code="0000")
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE code_attempts SET"
                " attempted_at[1] = attempted_at[1] - interval '301 seconds',"
                " attempted_at[2] = attempted_at[2] - interval '301 seconds'"
            )
        tries = [api.post("/register", code_v="1234", code="0000").result for _ in range(2)]
        assert tries == ["0004", "0005"]

    def test_old_tries_are_forgotten(
        self, api: Api, database_state: DatabaseState, services: Services
    ) -> None:
        api.post("/register", code_v="1234", code="0000")
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE code_attempts SET last_attempted_at = now() - interval '301 seconds'"
            )
        api.post("/register", code_v="4321", code="0000")
        assert len(database_state.rows("code_attempts")) == 1

    def test_a_file_is_a_wrong_code(self, api: Api) -> None:
        files = [("code_v", "1234", b"1234"), ("code", "1234", b"1234")]
        answer = api.send("/register", {}, upload_files=files)
        assert answer.body == {"result": "0004", "message": None}


class TestRegister:
    def test_an_account_is_opened(self, api: Api, database_state: DatabaseState) -> None:
        profile = {"nickname": "安", "gender": "0", "headImage": "/somewhere/a.jpg"}
        answer = api.post("/register", **NEW, **profile)
        assert answer.body == {"result": "0000", "message": None}
        (account,) = database_state.rows("accounts")
        assert account["phone"] == PHONE
        assert (account["nickname"], account["gender"]) == ("安", "0")
        assert account["head_image"] == "/somewhere/a.jpg"
        assert PASSWORD not in account["password_hash"]
        assert [row["amount"] for row in database_state.rows("coin_slots")] == [0]

    def test_the_profile_is_optional_and_empty_means_absent(
        self, api: Api, database_state: DatabaseState
    ) -> None:
        assert api.post("/register", **NEW, nickname="", gender="", headImage="").result == "0000"
        (account,) = database_state.rows("accounts")
        assert account["nickname"] is account["gender"] is account["head_image"] is None

    def test_a_phone_registers_once(
        self, ann: Person, api: Api, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = api.post("/register", **{**NEW, "userId": ann.phone})
        assert answer.body == {"result": "0006", "message": None}
        assert answer.refusal == "userId is registered already"

    @pytest.mark.parametrize(
        ("changed", "refusal"),
        [
            ({"userId": ""}, "userId is missing"),
            ({"userId": "1380000000"}, "userId is not a phone number"),
            ({"userId": "１３８００００００００９"}, "userId is not a phone number"),
            ({"password": ""}, "password is missing"),
            ({"password": "abcd123"}, "password is too short"),
            ({"password": "a1" * 65}, "password is too long"),
            ({"password": "abcdefgh"}, "password needs a letter and a digit"),
            ({"password": "12345678"}, "password needs a letter and a digit"),
            ({"password": "abcdefg１"}, "password needs a letter and a digit"),
            ({"password": "abcd1234\0"}, "password has a control character"),
            ({"password": "abcd1234\n"}, "password has a control character"),
            ({"gender": "2"}, "gender is not one of the values"),
            ({"gender": "１"}, "gender is not one of the values"),
            ({"nickname": "n" * 33}, "nickname is too long"),
            ({"nickname": "a\u0085"}, "nickname has a control character"),
            ({"nickname": "a\u202eb"}, "nickname has a control character"),
            ({"nickname": "   "}, "nickname is missing"),
            ({"headImage": "h" * 256}, "headImage is too long"),
            ({"headImage": "a\tb"}, "headImage has a control character"),
        ],
    )
    def test_a_faulty_parameter_is_0006(
        self, changed: dict[str, str], refusal: str, api: Api, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = api.post("/register", **{**NEW, **changed})
        assert (answer.status, answer.body) == (200, {"result": "0006", "message": None})
        assert answer.refusal == refusal

    @pytest.mark.parametrize("name", ["userId", "password"])
    def test_a_missing_parameter_is_0006(
        self, name: str, api: Api, database_state: DatabaseState
    ) -> None:
        form = {key: value for key, value in NEW.items() if key != name}
        with database_state.unchanged():
            answer = api.post("/register", **form)
        assert (answer.result, answer.refusal) == ("0006", f"{name} is missing")

    @pytest.mark.parametrize(
        "password", ["密码密码密码密1", " abcd 1234 ", "a1" * 64, "é1345678", "密1" * 64]
    )
    def test_a_password_is_kept_exactly_as_sent(self, password: str, api: Api) -> None:
        assert api.post("/register", **{**NEW, "password": password}).result == "0000"
        assert api.post("/log", userId=PHONE, password=password).result == "0000"
        assert api.post("/log", userId=PHONE, password=password.strip()).result == (
            "0000" if password == password.strip() else "0008"
        )
        assert api.post("/log", userId=PHONE, password=password[:-1]).result == "0008"

    def test_a_file_is_no_nickname(self, api: Api, database_state: DatabaseState) -> None:
        files = [("nickname", "n.txt", b"Ann")]
        with database_state.unchanged():
            answer = api.send("/register", NEW, upload_files=files)
        assert answer.result == "0006"

    def test_an_uploaded_picture_becomes_the_accounts(
        self, api: Api, database_state: DatabaseState
    ) -> None:
        upload = api.send("/upload", {}, upload_files=[("img", "a.png", b"png")])
        assert api.post("/register", **NEW, headImage=upload.message).result == "0000"
        (picture,) = database_state.rows("pictures")
        assert picture["account_id"] == database_state.rows("accounts")[0]["id"]


class TestWithAVerifiedPhone:
    @pytest.fixture
    def app(self, new_app: Callable[..., App]) -> App:
        return new_app(register__verified_phone="required")

    def verify(self, api: Api) -> None:
        code = api.post("/register", token=PHONE).message
        assert api.post("/register", code_v=code, code=code).result == "0000"

    def test_a_phone_must_be_verified_first(self, api: Api, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            answer = api.post("/register", **NEW)
        assert answer.body == {"result": "0006", "message": None}
        assert answer.refusal == "userId is not verified"
        self.verify(api)
        assert api.post("/register", **NEW).result == "0000"

    def test_a_registration_uses_the_verification_up(
        self, api: Api, database_state: DatabaseState
    ) -> None:
        self.verify(api)
        self.verify(api)
        assert api.post("/register", **NEW).result == "0000"
        assert {row["state"] for row in database_state.rows("verification_codes")} == {"used"}

    def test_a_verification_lasts_a_quarter_of_an_hour(
        self, api: Api, services: Services, database_state: DatabaseState
    ) -> None:
        self.verify(api)
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE verification_codes SET verified_at = now() - interval '15 minutes'"
            )
        with database_state.unchanged():
            assert api.post("/register", **NEW).result == "0006"

    def test_a_refused_registration_leaves_the_verification(self, api: Api) -> None:
        self.verify(api)
        assert api.post("/register", **{**NEW, "gender": "2"}).result == "0006"
        assert api.post("/register", **NEW).result == "0000"


class TestWithOurPicturesOnly:
    @pytest.fixture
    def app(self, new_app: Callable[..., App]) -> App:
        return new_app(pictures__only_ours="true")

    def test_a_picture_is_somebodys_once(self, api: Api, database_state: DatabaseState) -> None:
        upload = api.send("/upload", {}, upload_files=[("img", "a.png", b"png")])
        assert api.post("/register", **NEW, headImage=upload.message).result == "0000"
        other = {**NEW, "userId": "13800000008"}
        with database_state.unchanged():
            answer = api.post("/register", **other, headImage=upload.message)
        assert (answer.result, answer.refusal) == ("0006", "headImage is unknown")

    def test_no_other_picture_is_taken(self, api: Api, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            assert api.post("/register", **NEW, headImage="/etc/passwd").result == "0006"
