"""What the API document leaves out of an account's life: leaving, new passwords, its end."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import text

from livebackend.container import Services
from livebackend.database.engine import Database
from tests.support.api import PASSWORD, Answer, Api, App, Person, Phone, at_once, results
from tests.support.database_state import DatabaseState
from tests.support.pictures import PNG, upload

NEW = "another-harbour-7"
NOBODY = "13800000077"


def wait_for_a_lock(database: Database) -> None:
    """Until somebody waits for one."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    for _ in range(200):
        with database.engine.connect() as connection:
            if connection.execute(waiting).scalar_one():
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


class TestLogOut:
    def test_the_token_ends_and_no_other(self, ann: Person, api: Api, ben: Person) -> None:
        other = api.log_in(ann.phone)
        assert ann.post("/log", logout="1").body == {"result": "0000", "message": None}
        assert ann.post("/list", friendlist="1").result == "0012"
        assert ann.post("/log", logout="1").result == "0012"
        assert other.friends() == ben.friends() == []

    def test_what_has_expired_need_not_be_remembered(
        self, ann: Person, api: Api, database: Database, database_state: DatabaseState
    ) -> None:
        ann.post("/log", logout="1")
        with database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE revoked_tokens SET expires_at = now()")
        api.log_in(ann.phone).post("/log", logout="1")
        assert len(database_state.rows("revoked_tokens")) == 1


class TestChangePassword:
    def change(self, person: Person, old: str = PASSWORD, new: str = NEW, **more: str) -> Person:
        answer = person.post("/log", change="1", oldPassword=old, password=new, **more)
        assert answer.result == "0000", answer
        return Person(person.app, {"token": answer.message}, person.phone)

    def test_all_tokens_end_but_the_one_in_the_reply(self, ann: Person, api: Api) -> None:
        other = api.log_in(ann.phone)
        new = self.change(ann)
        for ended in (ann, other):
            assert ended.post("/list", friendlist="1").result == "0012"
        assert new.friends() == []
        assert api.post("/log", userId=ann.phone, password=PASSWORD).result == "0008"
        assert api.post("/log", userId=ann.phone, password=NEW).result == "0000"

    def test_the_new_token_lives_as_long_as_is_asked(self, ann: Person) -> None:
        assert self.change(ann, expire_in="0").post("/list", friendlist="1").result == "0011"

    @pytest.mark.parametrize("old", ["wrong-1", "", PASSWORD + " ", "x" * 200])
    def test_another_old_password_is_0008(
        self, old: str, ann: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = ann.post("/log", change="1", oldPassword=old, password=NEW)
        assert (answer.status, answer.result) == (200, "0008")

    @pytest.mark.parametrize(
        "new", ["short1", "onlyletters", "12345678", "", "a1" * 65, "a\x001bcdef"]
    )
    def test_a_new_one_that_is_none_is_0006(
        self, new: str, ann: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = ann.post("/log", change="1", oldPassword=PASSWORD, password=new)
        assert (answer.status, answer.result) == (200, "0006")

    def test_hardened_a_common_one_is_0006(
        self, phone_of_ann: Phone, database_state: DatabaseState
    ) -> None:
        ann = phone_of_ann.register()
        for new in ("password1", f"x{ann.phone}"):
            with database_state.unchanged():
                answer = ann.post("/log", change="1", oldPassword=PASSWORD, password=new)
            assert (answer.result, answer.refusal) == ("0006", "password is too easily guessed")

    def test_two_at_once_are_one_change(self, ann: Person, api: Api) -> None:
        changes = [
            partial(ann.post, "/log", change="1", oldPassword=PASSWORD, password=f"{NEW}{n}")
            for n in range(2)
        ]
        answers = at_once(*changes)
        changed = [n for n, answer in enumerate(answers) if answer.result == "0000"]
        # Who comes second finds his token ended, his old password wrong, or the account changed.
        assert len(changed) == 1
        assert {answer.result for answer in answers} <= {"0000", "0006", "0008", "0012"}
        assert api.post("/log", userId=ann.phone, password=f"{NEW}{changed[0]}").result == "0000"


class TestResetPassword:
    def test_a_code_opens_the_account_anew(self, phone_of_ann: Phone) -> None:
        ann = phone_of_ann.register()
        reset = {"reset": "1", "userId": ann.phone, "password": NEW}
        ticket = self.forgot(phone_of_ann)
        code = phone_of_ann.sent[-1]
        assert len(code) == 6
        answer = ann.post("/log", **reset, code_v=ticket, code=code)
        assert answer.body == {"result": "0000", "message": None}
        assert ann.post("/list", friendlist="1").result == "0012"
        assert phone_of_ann.post("/log", userId=ann.phone, password=NEW).result == "0000"
        # Once.
        assert ann.post("/log", **reset, code_v=ticket, code=code).result == "0004"

    def forgot(self, phone: Phone) -> str:
        # A minute after the code to register with.
        with phone.app.registry.services.database.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM rate_limit_windows")
        answer = phone.post("/log", forgot="1", userId=phone.number)
        assert answer.result == "0000", answer
        return str(answer.message)

    def test_nobody_is_told_apart_from_somebody(
        self, phone_of_ann: Phone, phone_of_ben: Phone
    ) -> None:
        phone_of_ann.register()
        sent = len(phone_of_ann.sent)
        tickets = [self.forgot(phone_of_ann), self.forgot(phone_of_ben)]
        assert len(phone_of_ann.sent) == sent + 1
        assert phone_of_ben.sent == []
        for phone, ticket in zip((phone_of_ann, phone_of_ben), tickets, strict=True):
            tried = [
                phone.post(
                    "/log", reset="1", userId=phone.number, password=NEW, code_v=ticket, code="x"
                ).result
                for _ in range(6)
            ]
            assert tried == ["0004"] * 4 + ["0005"] * 2

    def test_each_code_is_good_for_its_own_purpose(
        self, phone_of_ann: Phone, phone_of_ben: Phone
    ) -> None:
        phone_of_ann.register()
        ticket = self.forgot(phone_of_ann)
        verify = {"code_v": ticket, "code": phone_of_ann.sent[-1]}
        assert phone_of_ann.post("/register", **verify).result == "0004"
        ticket = phone_of_ben.ask()
        reset = {"reset": "1", "userId": phone_of_ann.number, "password": NEW}
        registers = {"code_v": ticket, "code": phone_of_ben.sent[-1]}
        assert phone_of_ann.post("/log", **reset, **registers).result == "0004"

    def test_a_code_is_good_for_its_own_phone(
        self, phone_of_ann: Phone, phone_of_ben: Phone, database_state: DatabaseState
    ) -> None:
        phone_of_ann.register(), phone_of_ben.register()
        ticket = self.forgot(phone_of_ben)
        with database_state.unchanged():
            answer = phone_of_ben.post(
                "/log",
                reset="1",
                userId=phone_of_ann.number,
                password=NEW,
                code_v=ticket,
                code=phone_of_ben.sent[-1],
            )
        assert answer.result == "0004"

    def test_a_wrong_code_stays_counted_and_changes_no_password(
        self, phone_of_ann: Phone, database_state: DatabaseState
    ) -> None:
        ann = phone_of_ann.register()
        ticket = self.forgot(phone_of_ann)
        before = database_state.rows("accounts")
        reset = {"reset": "1", "userId": ann.phone, "password": NEW, "code_v": ticket}
        wrong = f"{(int(phone_of_ann.sent[-1]) + 1) % 10**6:06}"
        tried = [ann.post("/log", **reset, code=wrong).result for _ in range(5)]
        assert tried == ["0004"] * 4 + ["0005"]
        assert ann.post("/log", **reset, code=phone_of_ann.sent[-1]).result == "0005"
        assert database_state.rows("accounts") == before

    def test_a_bad_password_spends_no_code(
        self, phone_of_ann: Phone, database_state: DatabaseState
    ) -> None:
        ann = phone_of_ann.register()
        reset = {"reset": "1", "userId": ann.phone, "code_v": self.forgot(phone_of_ann)}
        reset["code"] = phone_of_ann.sent[-1]
        for bad in ("short1", "password1", ""):
            with database_state.unchanged():
                assert ann.post("/log", **reset, password=bad).result == "0006"
        assert ann.post("/log", **reset, password=NEW).result == "0000"

    def test_a_code_to_reset_counts_as_any_other(self, phone_of_ann: Phone) -> None:
        phone_of_ann.register()
        answer = phone_of_ann.post("/log", forgot="1", userId=phone_of_ann.number)
        assert (answer.result, answer.refusal) == ("0002", "call was tried too often")

    def test_in_development_the_reply_is_the_code(self, ann: Person, api: Api) -> None:
        code = api.post("/log", forgot="1", userId=ann.phone).message
        assert len(code) == 6
        reset = {"reset": "1", "userId": ann.phone, "password": NEW}
        assert api.post("/log", **reset, code_v=code, code="0" * 6).result == "0004"
        assert api.post("/log", **reset, code_v="1" * 6, code="1" * 6).result == "0004"
        assert api.post("/log", **reset, code_v=code, code=code).result == "0000"
        assert api.post("/log", userId=ann.phone, password=NEW).result == "0000"

    @pytest.mark.parametrize("phone", ["", "1380000000", "１３８０００００００１"])
    def test_no_phone_is_0002(self, phone: str, api: Api, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            assert api.post("/log", forgot="1", userId=phone).result == "0002"


class TestChangeProfile:
    def test_what_is_absent_stays(self, ann: Person) -> None:
        answer = ann.post("/register", profile="1", gender="0")
        card = {"userId": ann.phone, "nickname": "Ann", "gender": "0", "headImage": None}
        assert answer.body == {"result": "0000", "message": card}
        answer = ann.post("/register", profile="1", nickname="Anna")
        assert answer.message == card | {"nickname": "Anna"}
        assert ann.post("/register", profile="1").message == card | {"nickname": "Anna"}

    @pytest.mark.parametrize(
        "wrong", [{"gender": "2"}, {"nickname": " "}, {"nickname": "x" * 33}, {"headImage": "\0"}]
    )
    def test_a_faulty_one_changes_nothing(
        self, wrong: dict[str, str], ann: Person, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = ann.post("/register", profile="1", **{"gender": "0", **wrong})
        assert (answer.status, answer.result) == (200, "0006")

    def test_a_new_picture_takes_the_old_ones_place(
        self, phone_of_ann: Phone, database_state: DatabaseState
    ) -> None:
        ann = phone_of_ann.register()
        old, new = (upload(ann, PNG).message for _ in range(2))
        assert ann.post("/register", profile="1", headImage=old).message["headImage"] == old
        assert ann.post("/register", profile="1", headImage=old).result == "0000"
        assert ann.post("/register", profile="1", headImage=new).message["headImage"] == new
        assert [row["location"] for row in database_state.rows("pictures")] == [new]
        assert [Path(file).parent.name for file in self.files(database_state)] == [
            new.split("/")[-2]
        ]

    def files(self, database_state: DatabaseState) -> list[str]:
        return [file for file in database_state.state()["files"] if file.endswith("picture.jpg")]

    def test_hardened_anybody_elses_is_refused(
        self, phone_of_ann: Phone, phone_of_ben: Phone, database_state: DatabaseState
    ) -> None:
        ann, ben = phone_of_ann.register(), phone_of_ben.register()
        hers = upload(ann, PNG).message
        ann.post("/register", profile="1", headImage=hers)
        for location in (hers, "/etc/passwd", "http://evil.example/x.png", "javascript:alert(1)"):
            with database_state.unchanged():
                answer = ben.post("/register", profile="1", headImage=location)
            assert (answer.result, answer.refusal) == ("0006", "headImage is unknown")


class TestRemove:
    def test_nothing_personal_is_left(
        self, phone_of_ann: Phone, phone_of_ben: Phone, database_state: DatabaseState
    ) -> None:
        ann, ben = phone_of_ann.register(nickname="Ann", gender="0"), phone_of_ben.register()
        ann.post("/register", profile="1", headImage=upload(ann, PNG).message)
        ann.befriend(ben)
        ann.live(title="hello")
        ann.post("/room", leave="1")
        ann.refill("50")
        ann.give(ben, "20")
        assert ann.post("/register", remove="1", password=PASSWORD).result == "0000"

        (row,) = [row for row in database_state.rows("accounts") if row["removed_at"]]
        assert {row[name] for name in ("phone", "nickname", "gender", "head_image")} == {None}
        assert row["password_hash"] == ""
        for table in ("friendships", "friend_requests", "blocks", "pictures"):
            assert database_state.rows(table) == []
        assert [row["phone"] for row in database_state.rows("verification_codes")] == [ben.phone]
        assert [row["title"] for row in database_state.rows("rooms")] == [None]
        assert not [
            file for file in database_state.state()["files"] if file.endswith("picture.jpg")
        ]
        # The ledger keeps what was moved, and whose it was without a name.
        assert len(database_state.rows("transfers")) == 2
        assert database_state.coins(ben) == 20
        assert sum(row["amount"] for row in database_state.rows("coin_slots")) == 50

    def test_to_others_he_is_nobody(self, ann: Person, ben: Person, api: Api) -> None:
        ann.befriend(ben)
        ann.post("/register", remove="1", password=PASSWORD)
        assert ben.friends() == ben.messages() == []
        assert ann.post("/list", friendlist="1").result == "0012"
        assert api.post("/log", userId=ann.phone, password=PASSWORD).result == "0007"
        assert ben.add(ann).result == "0007"
        assert ben.post("/friend", search="1", userId=ann.phone).result == "0007"
        ben.refill("10")
        assert ben.give(ann, "1").result == "0013"

    def test_the_phone_may_register_anew_with_nothing_of_before(
        self, ann: Person, api: Api, database_state: DatabaseState
    ) -> None:
        ann.refill("10")
        ann.post("/register", remove="1", password=PASSWORD)
        assert api.post("/register", token=ann.phone).result == "0000"
        again = api.person(ann.phone)
        assert ann.post("/list", friendlist="1").result == "0012"
        assert again.friends() == again.messages() == []
        assert database_state.coins(again) == 0

    def test_a_wrong_password_is_0008(self, ann: Person, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            assert ann.post("/register", remove="1", password="wrong-1").result == "0008"
            assert ann.post("/register", remove="1").result == "0006"

    def test_whoever_is_live_leaves_first(self, ann: Person, database_state: DatabaseState) -> None:
        ann.live()
        with database_state.unchanged():
            answer = ann.post("/register", remove="1", password=PASSWORD)
        assert (answer.result, answer.refusal) == ("0006", "room is live")

    @pytest.mark.parametrize("turn", range(10))
    def test_befriending_at_that_moment_leaves_no_half_friendship(
        self, turn: int, ann: Person, ben: Person, database_state: DatabaseState
    ) -> None:
        ann.add(ben)
        (message,) = ben.messages()
        remove = partial(ann.post, "/register", remove="1", password=PASSWORD)
        answers = at_once(remove, lambda: ben.deal(message, "accept"), lambda: ben.add(ann))
        assert answers[0].result == "0000"
        assert answers[1].result in ("0000", "0006")
        assert database_state.rows("friendships") == database_state.rows("friend_requests") == []

    def test_whoever_comes_too_late_with_a_new_profile_is_refused(
        self, ann: Person, database: Database, database_state: DatabaseState
    ) -> None:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1 FROM accounts FOR UPDATE")
            change = Thread(
                target=lambda: answers.append(ann.post("/register", profile="1", nickname="N"))
            )
            answers: list[Answer] = []
            change.start()
            wait_for_a_lock(database)
            connection.exec_driver_sql(
                "UPDATE accounts SET phone = NULL, nickname = NULL, removed_at = now()"
            )
        change.join(timeout=10)
        assert [answer.result for answer in answers] == ["0006"]
        assert [row["nickname"] for row in database_state.rows("accounts")] == [None]

    def test_twenty_at_once_are_one(self, ann: Person) -> None:
        remove = partial(ann.post, "/register", remove="1", password=PASSWORD)
        assert set(results(at_once(*[remove] * 20))) <= {"0000", "0006", "0008", "0012"}


def test_a_disabled_account_is_out_at_once(ann: Person, api: Api, services: Services) -> None:
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE accounts SET disabled_at = now()")
    assert ann.post("/list", friendlist="1").result == "0012"
    assert api.post("/log", userId=ann.phone, password=PASSWORD).result == "0008"
    code = api.post("/log", forgot="1", userId=ann.phone).message
    reset = {"reset": "1", "userId": ann.phone, "password": NEW, "code_v": code, "code": code}
    assert api.post("/log", **reset).result == "0004"


@pytest.mark.usefixtures("database")
def test_an_ended_token_uses_up_nothing(new_app: Callable[..., App]) -> None:
    ann = Api(new_app(limits__search="2 per hour")).person("13800000001")
    stolen = Person(ann.app, dict(ann.always), ann.phone)
    changed = ann.post("/log", change="1", oldPassword=PASSWORD, password=NEW)
    for _ in range(3):
        assert stolen.post("/friend", search="1", userId=ann.phone).result == "0012"
    assert ann.post("/friend", search="1", userId=ann.phone, token=changed.message).result == "0000"
