"""Codes and registration in hardened mode: what an attacker can't do."""

import re
from collections.abc import Callable
from functools import partial
from uuid import UUID

import pytest
from itsdangerous import URLSafeSerializer
from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.services.code_verifiers import Digests, TicketJudge
from tests.support.api import PASSWORD, Answer, Api, App, Phone, at_once, results
from tests.support.application import PRODUCTION_INI
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import BrokenSms
from tests.support.servers import HARDENED_SECRET


@pytest.fixture
def phone(phone_of_ann: Phone) -> Phone:
    return phone_of_ann


def other_than(code: str, nth: int = 1) -> str:
    return f"{(int(code) + nth) % 10_000:04}"


def age_codes(database: Database, seconds: int) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE verification_codes SET"
                " expires_at = expires_at - make_interval(secs => :age),"
                " verified_at = verified_at - make_interval(secs => :age)"
            ),
            {"age": seconds},
        )


class TestTicket:
    def test_the_reply_neither_holds_nor_allows_the_code(self, phone: Phone) -> None:
        # The same phone again and again, to see what in the reply follows the code.
        answer = phone.post("/register", token=phone.number)
        (code,) = phone.sent
        payload = URLSafeSerializer("unknown").loads_unsafe(answer.message)[1]
        assert re.fullmatch("[0-9a-f]{32}", payload)
        # A random name may well have four digits of the code in it: but not as its own word.
        for shown in (answer.message, payload, *answer.headers.values()):
            assert not re.search(rf"(?<!\w){code}(?!\w)", shown)

    def test_equal_tickets_stand_for_unequal_codes(self) -> None:
        judge = TicketJudge(["s" * 32], Digests([b"a key"]))
        code_id = UUID(int=7)
        assert judge.reply(code_id, "0042") == judge.reply(code_id, "9999")

    def test_an_invented_pair_never_verifies(
        self, phone: Phone, database_state: DatabaseState
    ) -> None:
        phone.ask()
        for code_v in ("1234", phone.sent[0], "", "x" * 5000, "a.b"):
            with database_state.unchanged():
                assert phone.post("/register", code_v=code_v, code=code_v).result == "0004"
        with database_state.unchanged():
            assert phone.post("/register", code_v="1234", code="1234").result == "0004"

    def test_a_right_code_verifies_once(self, phone: Phone) -> None:
        ticket = phone.ask()
        pair = {"code_v": ticket, "code": phone.sent[0]}
        assert phone.post("/register", **pair).result == "0000"
        assert phone.post("/register", **pair).result == "0004"

    def test_two_at_once_verify_once(self, phone: Phone) -> None:
        pair = {"code_v": phone.ask(), "code": phone.sent[0]}
        assert results(at_once(*[partial(phone.post, "/register", **pair)] * 2)) == ["0000", "0004"]

    def test_the_fifth_wrong_try_ends_it(self, phone: Phone) -> None:
        ticket, code = phone.ask(), phone.sent[0]
        tried = [
            phone.post("/register", code_v=ticket, code=wrong).result
            for wrong in ("１２３４", f" {code}", "", f"0{code}", other_than(code))
        ]
        assert tried == ["0004"] * 4 + ["0005"]
        assert phone.post("/register", code_v=ticket, code=code).result == "0005"

    def test_of_fifty_guesses_at_once_five_are_compared(
        self, phone: Phone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared = []
        match = Digests.match

        def counted(self: Digests, *values: object) -> bool:
            compared.append(values)
            return match(self, *values)  # type: ignore[arg-type]

        monkeypatch.setattr(Digests, "match", counted)
        ticket, code = phone.ask(), phone.sent[0]
        guesses = [
            partial(phone.post, "/register", code_v=ticket, code=other_than(code, nth))
            for nth in range(1, 51)
        ]
        assert results(at_once(*guesses)) == ["0004"] * 4 + ["0005"] * 46
        assert len(compared) == 5

    def test_after_five_minutes_it_is_worth_nothing(self, phone: Phone, database: Database) -> None:
        ticket = phone.ask()
        age_codes(database, 301)
        assert phone.post("/register", code_v=ticket, code=phone.sent[0]).result == "0004"

    def test_another_tickets_code_is_wrong(self, phone: Phone, phone_of_ben: Phone) -> None:
        ticket = phone.ask()
        phone_of_ben.ask()
        if phone_of_ben.sent != phone.sent:  # once in ten thousand runs they are the same
            answer = phone.post("/register", code_v=ticket, code=phone_of_ben.sent[0])
            assert answer.result == "0004"

    def test_a_login_token_is_no_ticket(self, phone: Phone, phone_of_ben: Phone) -> None:
        ann, ticket = phone.register(), phone_of_ben.ask()
        assert ann.post("/register", code_v=ann.token, code="1234").result == "0004"
        assert ann.post("/list", token=ticket, friendlist="1").result == "0012"

    def test_a_code_that_was_not_sent_verifies_nothing(
        self, new_app: Callable[..., App], database_state: DatabaseState
    ) -> None:
        phone = Phone(broken_sms(new_app), "13800000001")
        answer = phone.post("/register", token=phone.number)
        assert (answer.result, answer.refusal) == ("0002", "message could not be done outside")
        (row,) = database_state.rows("verification_codes")
        assert row["state"] == "failed"


def broken_sms(new_app: Callable[..., App]) -> App:
    return new_app(
        PRODUCTION_INI,
        secrets=HARDENED_SECRET,
        passwords__pepper="a-pepper-of-the-tests-that-is-long-enough",
        sms__gateway=f"{BrokenSms.__module__}.{BrokenSms.__name__}",
        streams__gateway="tests.support.fake_gateways.CountedStreams",
    )


class TestLimits:
    def test_a_phone_gets_one_code_in_a_minute(
        self, phone: Phone, database_state: DatabaseState
    ) -> None:
        phone.ask()
        with database_state.unchanged():
            answer = phone.post("/register", token=phone.number)
        assert (answer.status, answer.result) == (200, "0002")
        assert answer.refusal == "call was tried too often"
        assert 55 < int(answer.headers["Retry-After"]) <= 60
        assert len(phone.sent) == 1

    def test_twenty_at_once_are_one_message(self, phone: Phone) -> None:
        calls = [partial(phone.post, "/register", token=phone.number)] * 20
        assert results(at_once(*calls)) == ["0000"] + ["0002"] * 19
        assert len(phone.sent) == 1

    def test_an_address_gets_twenty_in_an_hour(self, hardened_app: App) -> None:
        phones = [Phone(hardened_app, f"138000001{n:02}") for n in range(21)]
        asked = [phone.post("/register", token=phone.number) for phone in phones]
        assert [answer.result for answer in asked] == ["0000"] * 20 + ["0002"]
        assert phones[20].sent == []

    def test_a_registered_phone_costs_no_message(self, phone: Phone) -> None:
        phone.register()
        assert phone.post("/register", token=phone.number).result == "0001"
        assert len(phone.sent) == 1

    def test_the_installation_has_a_budget(self, new_app: Callable[..., App]) -> None:
        app = new_app(limits__codes_all="2 per day")
        sent = [Api(app).post("/register", token=f"1380000000{n}").result for n in range(3)]
        assert sent == ["0000", "0000", "0002"]


class TestRegister:
    @pytest.fixture
    def account(self, phone: Phone) -> dict[str, str]:
        return {"register": "1", "userId": phone.number, "password": PASSWORD}

    def test_an_unverified_phone_is_refused(
        self, phone: Phone, account: dict[str, str], database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = phone.post("/register", **account)
        assert (answer.result, answer.refusal) == ("0006", "userId is not verified")

    def test_a_verification_is_good_for_a_quarter_of_an_hour(
        self, phone: Phone, account: dict[str, str], database: Database
    ) -> None:
        phone.verify()
        age_codes(database, 15 * 60 + 1)
        assert phone.post("/register", **account).result == "0006"

    def test_a_registration_uses_it_up(
        self, phone: Phone, account: dict[str, str], database_state: DatabaseState
    ) -> None:
        phone.verify()
        assert phone.post("/register", **account).result == "0000"
        assert [row["state"] for row in database_state.rows("verification_codes")] == ["used"]

    def test_a_refused_registration_leaves_it(self, phone: Phone, account: dict[str, str]) -> None:
        phone.verify()
        refused = phone.post("/register", **{**account, "headImage": "/etc/passwd"})
        assert (refused.result, refused.refusal) == ("0006", "headImage is unknown")
        assert phone.post("/register", **account).result == "0000"

    @pytest.mark.parametrize(
        "password", ["password1", "Password1", "a1234567", "1qaz2wsx", "x13800000001", "q1w2e3r4"]
    )
    def test_what_everybody_tries_first_is_no_password(
        self, password: str, phone: Phone, account: dict[str, str]
    ) -> None:
        phone.verify()
        answer = phone.post("/register", **{**account, "password": password})
        assert (answer.result, answer.refusal) == ("0006", "password is too easily guessed")

    def test_twenty_at_once_are_one_account(
        self, phone: Phone, account: dict[str, str], database_state: DatabaseState
    ) -> None:
        phone.verify()

        def register() -> Answer:
            return phone.post("/register", **account)

        assert results(at_once(*[register] * 20)) == ["0000"] + ["0006"] * 19
        assert len(database_state.rows("accounts")) == 1


def test_a_query_string_is_refused(phone: Phone, database_state: DatabaseState) -> None:
    with database_state.unchanged():
        answer = phone.post("/friend?add=1", token="x")
    assert (answer.status, answer.result) == (400, "0003")
