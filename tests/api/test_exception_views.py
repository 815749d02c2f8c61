"""What the app reads when it is the server that cannot."""

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend.container import Services
from livebackend.core.errors import Unavailable
from livebackend.database.engine import Database
from tests.support.api import PASSWORD, Api, App, Person
from tests.support.database_state import DatabaseState

NOWHERE = "postgresql+psycopg2://nobody@127.0.0.1:1/nothing"
# A call of each operation that needs the database, and its refusal code.
CALLS = [
    ("/register", {"token": "13800000009"}, "0002"),
    ("/register", {"code_v": "1234", "code": "1235"}, "0004"),
    ("/register", {"register": "1", "userId": "13800000009", "password": PASSWORD}, "0006"),
    ("/log", {"userId": "13800000001", "password": PASSWORD}, "0008"),
    ("/room", {"live": "1"}, "0009"),
    ("/room", {"leave": "1"}, "0009"),
    ("/list", {"friendlist": "1"}, "0006"),
    ("/list", {"messagelist": "1"}, "0006"),
    ("/friend", {"search": "1", "userId": "13800000001"}, "0006"),
    ("/friend", {"add": "1", "userId": "13800000001"}, "0006"),
    ("/friend", {"dealMessage": "1", "behaviour": "accept"}, "0006"),
    ("/friend", {"delete": "1", "userId": "13800000001"}, "0006"),
    ("/golden", {"refill": "1", "money": "10"}, "0013"),
    ("/friend", {"refill": "1", "money": "10"}, "0013"),
    (
        "/golden",
        {"send_gift": "1", "value": "1", "object": "13800000001", "description": "x"},
        "0013",
    ),
]


@pytest.mark.parametrize(("path", "form", "code"), CALLS, ids=str)
class TestTheDatabaseIsAway:
    def test_a_call_is_503_with_its_refusal_code(
        self,
        path: str,
        form: dict[str, str],
        code: str,
        ann: Person,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        nowhere = Database(NOWHERE)
        monkeypatch.setattr(services.database, "engine", nowhere.engine)
        answer = ann.post(path, **{"token": ann.token, **form})
        assert (answer.status, answer.result) == (503, code)
        assert answer.message == ("update failed" if code == "0013" else None)
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.refusal == "call cannot be served now"

    def test_a_call_works_again_when_the_connections_were_cut(
        self, path: str, form: dict[str, str], code: str, ann: Person, services: Services
    ) -> None:
        with services.database.engine.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert ann.post(path, **{"token": ann.token, **form}).status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoConnection("the pool is empty"), 503),
        (Unavailable("somebody", retry_after_s=7), 503),
        (OperationalError("SELECT 1", {}, psycopg2.OperationalError("timeout")), 503),
        (RuntimeError("a bug"), 500),
        (KeyError("13800000001"), 500),
    ],
)
def test_an_error_is_the_envelope_and_not_a_word_of_it(
    error: Exception, status: int, ann: Person, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **more: Any) -> Any:
        raise error

    monkeypatch.setattr(services.database, "singly", fail)
    answer = ann.post("/list", friendlist="1")
    assert (answer.status, answer.body) == (status, {"result": "0006", "message": None})
    if status == 503:
        assert answer.headers["Retry-After"] == str(getattr(error, "retry_after_s", 1))


def test_hashers_that_are_busy_are_503(
    new_app: Callable[..., App], ann: Person, database_state: DatabaseState
) -> None:
    app = new_app(passwords__at_once="1", passwords__wait_s="0.01")
    with app.registry.services.password_hashing.turn(), database_state.unchanged():
        answer = Api(app).post("/log", userId=ann.phone, password=PASSWORD)
        assert (answer.status, answer.result) == (503, "0008")
        form = {"register": "1", "userId": "13800000009", "password": PASSWORD}
        answer = Api(app).post("/register", **form)
        assert (answer.status, answer.result) == (503, "0006")
    assert Api(app).post("/log", userId=ann.phone, password=PASSWORD).status == 200


def test_no_log_shows_a_whole_phone_token_or_password(
    ann: Person,
    services: Services,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere = Database(NOWHERE)
    monkeypatch.setattr(services.database, "engine", nowhere.engine)
    ann.post("/log", userId=ann.phone, password=PASSWORD)
    ann.add(ann)
    assert "cannot be served now" in caplog.text
    for secret in (ann.phone, PASSWORD, ann.token):
        assert secret not in caplog.text
