"""Tests of code requests, tickets and registration with the production settings."""

import re
from collections.abc import Callable
from functools import partial
from uuid import UUID

import pytest
from itsdangerous import URLSafeSerializer
from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.services.code_verifiers import CodeHasher, SignedTicketVerifier
from tests.support.api import (
    PASSWORD,
    ApiClient,
    ApiResponse,
    App,
    PhoneClient,
    run_concurrently,
    sorted_results,
    wrong_code,
)
from tests.support.application import PRODUCTION_INI
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import FailingSms
from tests.support.servers import HARDENED_SECRET


@pytest.fixture
def phone(phone_of_ann: PhoneClient) -> PhoneClient:
    return phone_of_ann


def shift_codes_into_the_past(database: Database, shift_s: int) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE verification_codes SET"
                " expires_at = expires_at - make_interval(secs => :age),"
                " verified_at = verified_at - make_interval(secs => :age)"
            ),
            {"age": shift_s},
        )


class TestTicket:
    def test_code_request_response_does_not_reveal_the_code(self, phone: PhoneClient) -> None:
        response = phone.post("/register", token=phone.number)
        (code,) = phone.received_codes
        payload = URLSafeSerializer("unknown").loads_unsafe(response.message)[1]
        assert re.fullmatch("[0-9a-f]{32}", payload)
        # A longer random value can contain the four digits, so search for the code as a whole word.
        for value in (response.message, payload, *response.headers.values()):
            assert not re.search(rf"(?<!\w){code}(?!\w)", value)

    def test_ticket_does_not_depend_on_the_code(self) -> None:
        verifier = SignedTicketVerifier(["s" * 32], CodeHasher([b"a key"]))
        code_id = UUID(int=7)
        assert verifier.issue_ticket(code_id, "0042") == verifier.issue_ticket(code_id, "9999")

    def test_forged_ticket_returns_0004(
        self, phone: PhoneClient, database_state: DatabaseState
    ) -> None:
        phone.request_code()
        for code_v in ("1234", phone.received_codes[0], "", "x" * 5000, "a.b"):
            with database_state.assert_unchanged():
                assert phone.post("/register", code_v=code_v, code=code_v).result == "0004"
        with database_state.assert_unchanged():
            assert phone.post("/register", code_v="1234", code="1234").result == "0004"

    def test_correct_code_can_be_used_only_once(self, phone: PhoneClient) -> None:
        ticket = phone.request_code()
        ticket_and_code = {"code_v": ticket, "code": phone.received_codes[0]}
        assert phone.post("/register", **ticket_and_code).result == "0000"
        assert phone.post("/register", **ticket_and_code).result == "0004"

    def test_only_one_of_two_concurrent_verifications_of_a_code_succeeds(
        self, phone: PhoneClient
    ) -> None:
        ticket_and_code = {"code_v": phone.request_code(), "code": phone.received_codes[0]}
        assert sorted_results(
            run_concurrently(*[partial(phone.post, "/register", **ticket_and_code)] * 2)
        ) == ["0000", "0004"]

    def test_fifth_wrong_code_invalidates_the_ticket(self, phone: PhoneClient) -> None:
        ticket, code = phone.request_code(), phone.received_codes[0]
        result_codes = [
            phone.post("/register", code_v=ticket, code=attempted_code).result
            for attempted_code in ("１２３４", f" {code}", "", f"0{code}", wrong_code(code))
        ]
        assert result_codes == ["0004"] * 4 + ["0005"]
        assert phone.post("/register", code_v=ticket, code=code).result == "0005"

    def test_server_compares_only_five_of_fifty_concurrent_wrong_codes(
        self, phone: PhoneClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared_codes = []
        original_matches = CodeHasher.matches

        def record_and_compare(self: CodeHasher, *values: object) -> bool:
            compared_codes.append(values)
            return original_matches(self, *values)  # type: ignore[arg-type]

        monkeypatch.setattr(CodeHasher, "matches", record_and_compare)
        ticket, code = phone.request_code(), phone.received_codes[0]
        verification_calls = [
            partial(phone.post, "/register", code_v=ticket, code=wrong_code(code, nth))
            for nth in range(1, 51)
        ]
        assert sorted_results(run_concurrently(*verification_calls)) == ["0004"] * 4 + ["0005"] * 46
        assert len(compared_codes) == 5

    def test_ticket_expires_after_five_minutes(
        self, phone: PhoneClient, database: Database
    ) -> None:
        ticket = phone.request_code()
        shift_codes_into_the_past(database, 301)
        assert phone.post("/register", code_v=ticket, code=phone.received_codes[0]).result == "0004"

    def test_ticket_with_the_code_of_another_phone_returns_0004(
        self, phone: PhoneClient, phone_of_ben: PhoneClient
    ) -> None:
        ticket = phone.request_code()
        phone_of_ben.request_code()
        # In one of 10,000 runs, both phones get the same code, and the test checks nothing.
        if phone_of_ben.received_codes != phone.received_codes:
            response = phone.post("/register", code_v=ticket, code=phone_of_ben.received_codes[0])
            assert response.result == "0004"

    def test_login_token_and_ticket_are_not_interchangeable(
        self, phone: PhoneClient, phone_of_ben: PhoneClient
    ) -> None:
        ann, ticket = phone.register(), phone_of_ben.request_code()
        assert ann.post("/register", code_v=ann.token, code="1234").result == "0004"
        assert ann.post("/list", token=ticket, friendlist="1").result == "0012"

    def test_code_request_when_the_sms_gateway_fails_returns_0002(
        self, new_app: Callable[..., App], database_state: DatabaseState
    ) -> None:
        phone = PhoneClient(new_app_with_failing_sms(new_app), "13800000001")
        response = phone.post("/register", token=phone.number)
        assert (response.result, response.error) == ("0002", "message; reason=upstream_failed")
        (row,) = database_state.rows("verification_codes")
        assert row["state"] == "failed"


def new_app_with_failing_sms(new_app: Callable[..., App]) -> App:
    return new_app(
        PRODUCTION_INI,
        secrets=HARDENED_SECRET,
        passwords__pepper="a-pepper-of-the-tests-that-is-long-enough",
        sms__gateway=f"{FailingSms.__module__}.{FailingSms.__name__}",
        streams__gateway="tests.support.fake_gateways.RecordingStreams",
    )


class TestCodeRateLimits:
    def test_second_code_request_of_a_phone_within_a_minute_returns_0002(
        self, phone: PhoneClient, database_state: DatabaseState
    ) -> None:
        phone.request_code()
        with database_state.assert_unchanged():
            response = phone.post("/register", token=phone.number)
        assert (response.status, response.result) == (200, "0002")
        assert response.error == "request; reason=rate_limited"
        assert 55 < int(response.headers["Retry-After"]) <= 60
        assert len(phone.received_codes) == 1

    def test_twenty_concurrent_code_requests_of_a_phone_send_one_message(
        self, phone: PhoneClient
    ) -> None:
        code_request_calls = [partial(phone.post, "/register", token=phone.number)] * 20
        assert sorted_results(run_concurrently(*code_request_calls)) == ["0000"] + ["0002"] * 19
        assert len(phone.received_codes) == 1

    def test_twenty_first_code_request_of_a_client_address_within_an_hour_returns_0002(
        self, hardened_app: App
    ) -> None:
        phones = [PhoneClient(hardened_app, f"138000001{n:02}") for n in range(21)]
        responses = [phone.post("/register", token=phone.number) for phone in phones]
        assert [response.result for response in responses] == ["0000"] * 20 + ["0002"]
        assert phones[20].received_codes == []

    def test_code_request_for_a_registered_phone_returns_0001_and_sends_no_message(
        self, phone: PhoneClient
    ) -> None:
        phone.register()
        assert phone.post("/register", token=phone.number).result == "0001"
        assert len(phone.received_codes) == 1

    def test_code_request_over_the_total_sms_limit_returns_0002(
        self, new_app: Callable[..., App]
    ) -> None:
        app = new_app(limits__sms_total="2 per day")
        result_codes = [
            ApiClient(app).post("/register", token=f"1380000000{n}").result for n in range(3)
        ]
        assert result_codes == ["0000", "0000", "0002"]


class TestRegister:
    @pytest.fixture
    def account(self, phone: PhoneClient) -> dict[str, str]:
        return {"register": "1", "userId": phone.number, "password": PASSWORD}

    def test_registration_with_an_unverified_phone_returns_0006(
        self, phone: PhoneClient, account: dict[str, str], database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = phone.post("/register", **account)
        assert (response.result, response.error) == ("0006", "userId; reason=phone_not_verified")

    def test_registration_15_minutes_after_the_verification_returns_0006(
        self, phone: PhoneClient, account: dict[str, str], database: Database
    ) -> None:
        phone.verify()
        shift_codes_into_the_past(database, 15 * 60 + 1)
        assert phone.post("/register", **account).result == "0006"

    def test_registration_marks_the_code_used(
        self, phone: PhoneClient, account: dict[str, str], database_state: DatabaseState
    ) -> None:
        phone.verify()
        assert phone.post("/register", **account).result == "0000"
        assert [row["state"] for row in database_state.rows("verification_codes")] == ["used"]

    def test_failed_registration_keeps_the_verification(
        self, phone: PhoneClient, account: dict[str, str]
    ) -> None:
        phone.verify()
        failed_response = phone.post("/register", **{**account, "headImage": "/etc/passwd"})
        assert (failed_response.result, failed_response.error) == (
            "0006",
            "headImage; reason=unknown_picture",
        )
        assert phone.post("/register", **account).result == "0000"

    @pytest.mark.parametrize(
        "password", ["password1", "Password1", "a1234567", "1qaz2wsx", "x13800000001", "q1w2e3r4"]
    )
    def test_registration_with_a_common_password_returns_0006(
        self, password: str, phone: PhoneClient, account: dict[str, str]
    ) -> None:
        phone.verify()
        response = phone.post("/register", **{**account, "password": password})
        assert (response.result, response.error) == ("0006", "password; reason=common_password")

    def test_twenty_concurrent_registrations_of_a_phone_create_one_account(
        self, phone: PhoneClient, account: dict[str, str], database_state: DatabaseState
    ) -> None:
        phone.verify()

        def register() -> ApiResponse:
            return phone.post("/register", **account)

        assert sorted_results(run_concurrently(*[register] * 20)) == ["0000"] + ["0006"] * 19
        assert len(database_state.rows("accounts")) == 1


def test_request_with_a_query_string_returns_400(
    phone: PhoneClient, database_state: DatabaseState
) -> None:
    with database_state.assert_unchanged():
        response = phone.post("/friend?add=1", token="x")
    assert (response.status, response.result) == (400, "0003")
