"""Logging in, and what login tokens are worth."""

import re
import time

import pytest

from livebackend.api.declaration import operations
from livebackend.api.forms import Form
from livebackend.container import Services
from livebackend.services.login_tokens import Account, LoginTokens
from livebackend.services.password_hashing import Hasher
from livebackend.views.log import LogIn
from tests.support.api import PASSWORD, Api, App, Person
from tests.support.application import DEVELOPMENT_SECRET, replace_services
from tests.support.authenticated_calls import AUTHENTICATED_CALLS
from tests.support.database_state import DatabaseState

DAY = 24 * 3600


class TestLogIn:
    def test_the_message_is_a_token(self, ann: Person, api: Api) -> None:
        answer = api.post("/log", userId=ann.phone, password=PASSWORD, expire_in="3600")
        assert answer.body == {"result": "0000", "message": answer.message}
        assert re.fullmatch(r"[A-Za-z0-9._-]+", answer.message)
        assert api.post("/list", friendlist="1", token=answer.message).result == "0000"

    def test_a_second_login_leaves_the_first_token_valid(self, ann: Person, api: Api) -> None:
        second = api.log_in(ann.phone)
        assert second.token != ann.token
        assert ann.friends() == second.friends() == []

    @pytest.mark.parametrize(
        ("phone", "refusal"),
        [
            ("13800000077", "userId is unknown"),
            ("", "userId is missing"),
            ("1380000000", "userId is not a phone number"),
            ("１３８０００００００１", "userId is not a phone number"),
            ("13800000001\0", "userId is not a phone number"),
        ],
    )
    def test_nobody_is_0007(
        self, phone: str, refusal: str, ann: Person, api: Api, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = api.post("/log", userId=phone, password=PASSWORD)
        assert (answer.status, answer.body) == (200, {"result": "0007", "message": None})
        assert answer.refusal == refusal

    def test_a_missing_phone_is_0007(self, api: Api) -> None:
        assert api.post("/log", password=PASSWORD).result == "0007"
        assert api.post("/log").result == "0007"

    @pytest.mark.parametrize(
        "password",
        ["wrong1234", "ABCD1234", "abcd1234 ", "", "a", "abcd1234\0", "a1" * 65, "ａｂｃｄ1234"],
    )
    def test_a_wrong_password_is_0008(
        self, password: str, ann: Person, api: Api, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = api.post("/log", userId=ann.phone, password=password)
        assert (answer.status, answer.body) == (200, {"result": "0008", "message": None})

    def test_a_missing_password_is_0008(self, ann: Person, api: Api) -> None:
        assert api.post("/log", userId=ann.phone).result == "0008"
        # Even of nobody: which phone is registered is not told for less than a password.
        assert api.post("/log", userId="13800000077").result == "0008"

    def test_nobody_costs_as_many_hashes_as_a_wrong_password(
        self, ann: Person, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashes = []
        match = Hasher.match

        def counted(self: Hasher, password: str, password_hash: str | None) -> bool:
            hashes.append(password_hash)
            return match(self, password, password_hash)

        monkeypatch.setattr(Hasher, "match", counted)
        api.post("/log", userId=ann.phone, password="wrong1234")
        api.post("/log", userId="13800000077", password="wrong1234")
        assert len(hashes) == 2


class TestLifetime:
    @pytest.mark.parametrize(
        ("expire_in", "seconds"),
        [
            ("3600", 3600),
            ("+3600", 3600),
            ("0003600", 3600),
            (str(30 * DAY), 30 * DAY),
            (str(30 * DAY + 1), 30 * DAY),
            ("9" * 5000, 30 * DAY),
            ("0", 0),
            ("-0", 0),
            ("-1", 0),
            ("-" + "9" * 5000, 0),
            (None, 7 * DAY),
            ("", 7 * DAY),
            ("+", 7 * DAY),
            ("7天", 7 * DAY),
            ("3600.0", 7 * DAY),
            ("1e3", 7 * DAY),
            (" 3600", 7 * DAY),
            ("3_600", 7 * DAY),
            ("３６００", 7 * DAY),
            ("++1", 7 * DAY),
            ("3600\n", 7 * DAY),
        ],
    )
    def test_seconds_asked_for(self, expire_in: str | None, seconds: int) -> None:
        form: Form = {"userId": "13800000001", "password": PASSWORD}
        if expire_in is not None:
            form["expire_in"] = expire_in
        given = LogIn.read(form, phones="[0-9]{11}")
        tokens = LoginTokens(["k" * 32], clock=lambda: 1_000_000.0)
        token = tokens.issue(Account(7, "13800000001", 3), lifetime_s=given.expire_in)
        read = LoginTokens(["k" * 32], clock=lambda: 999_999.0).read(token)
        assert read.expires_at == 1_000_000 + seconds

    def test_the_token_lives_that_long(
        self, app: App, ann: Person, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        person = api.log_in(ann.phone, expire_in="100")
        now = time.time()

        def set_clock(to: float) -> None:
            tokens = LoginTokens([DEVELOPMENT_SECRET], clock=lambda: to)
            replace_services(app, monkeypatch, login_tokens=tokens)

        set_clock(now + 98)
        assert person.friends() == []
        set_clock(now + 101)
        answer = person.post("/list", friendlist="1")
        assert answer.body == {"result": "0011", "message": None}

    @pytest.mark.parametrize("expire_in", ["0", "-5"])
    def test_zero_or_less_gives_a_token_that_has_expired(
        self, expire_in: str, ann: Person, api: Api
    ) -> None:
        person = api.log_in(ann.phone, expire_in=expire_in)
        assert person.post("/list", friendlist="1").result == "0011"


def test_every_call_of_somebody_who_is_logged_in_is_tried_below(app: App) -> None:
    tried = {next(iter(form)) for _, form in AUTHENTICATED_CALLS}
    assert tried == {each.selector for each in operations(app.registry) if each.login}


@pytest.mark.parametrize(("path", "form"), AUTHENTICATED_CALLS, ids=str)
class TestTokens:
    """The same for every call by somebody who is logged in."""

    def test_an_expired_token_is_0011(
        self,
        path: str,
        form: dict[str, str],
        ann: Person,
        ben: Person,
        api: Api,
        database_state: DatabaseState,
    ) -> None:
        late = api.log_in(ann.phone, expire_in="0")
        with database_state.unchanged():
            answer = late.post(path, **form)
        assert (answer.status, answer.result, answer.refusal) == (200, "0011", "token has expired")

    def test_no_token_is_0012(
        self,
        path: str,
        form: dict[str, str],
        ann: Person,
        ben: Person,
        api: Api,
        database_state: DatabaseState,
    ) -> None:
        with database_state.unchanged():
            missing, empty = api.post(path, **form), api.post(path, **form, token="")
        assert missing.result == empty.result == "0012"
        assert missing.refusal == "token is missing"

    def test_a_forged_token_is_0012(
        self,
        path: str,
        form: dict[str, str],
        ann: Person,
        ben: Person,
        api: Api,
        database_state: DatabaseState,
    ) -> None:
        flipped = ("B" if ann.token[-10] == "A" else "A").join([ann.token[:-10], ann.token[-9:]])
        with database_state.unchanged():
            for token in (flipped, ann.token + "x", "x", "\0", "令牌", "x" * 60_000, ann.phone):
                answer = api.post(path, **form, token=token)
                assert (answer.status, answer.result) == (200, "0012"), token

    def test_a_token_is_judged_before_the_parameters(
        self, path: str, form: dict[str, str], api: Api
    ) -> None:
        selector = next(iter(form))
        assert api.post(path, **{selector: "1"}).result == "0012"

    def test_raising_the_token_version_ends_every_token(
        self,
        path: str,
        form: dict[str, str],
        ann: Person,
        ben: Person,
        api: Api,
        services: Services,
    ) -> None:
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE accounts SET token_version = token_version + 1")
        assert ann.post(path, **form).result == "0012"
        assert api.log_in(ann.phone).post(path, **form).result != "0012"
