"""How the tests talk to the application, and how they tell whether a call changed anything."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from sqlalchemy import text
from webtest import TestApp, TestRequest, Upload

from livebackend.api.result_codes import Result
from livebackend.services.login_tokens import Account

App = Any
# Good enough for hardened mode, too.
PASSWORD = "harbour-42"

# Secrets that went to and fro in the running test: none of them may stand in the log.
SECRETS: set[str] = set()
_SECRET_PARAMS = ("token", "password", "oldPassword", "code", "code_v")

_ACCOUNT = text("SELECT id, phone, token_version FROM accounts WHERE phone = :phone")
_RESULTS = {result.code: result for result in Result}


@dataclass(frozen=True)
class Answer:
    """A reply as the app reads it."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def result(self) -> str:
        return str(self.body["result"])

    @property
    def message(self) -> Any:
        return self.body["message"]

    @property
    def refusal(self) -> str | None:
        return self.headers.get("X-Refusal")


class _Request(TestRequest):  # type: ignore[misc]  # WebTest brings no types
    # Larger ones would go through temporary files that nobody closes.
    request_body_tempfile_limit = 2**30


class _Client(TestApp):  # type: ignore[misc]
    RequestClass = _Request
    # Nothing for pytest to collect.
    __test__ = False


def _answer(response: Any) -> Answer:
    return Answer(response.status_int, json.loads(response.body), dict(response.headers))


@dataclass
class Api:
    """Somebody with the app."""

    app: App
    # Goes with every call.
    always: dict[str, str] = field(default_factory=dict)

    def post(self, path: str, **params: str | Upload) -> Answer:
        return self.send(path, {**self.always, **params})

    def send(self, path: str, form: Any, **options: Any) -> Answer:
        """POSTs a form of fields, and of files if there are `upload_files`."""
        answer = _answer(_Client(self.app).post(path, form, status="*", **options))
        if isinstance(form, dict):
            SECRETS.update(str(form[name]) for name in _SECRET_PARAMS if form.get(name))
        if path in ("/log", "/register", "/room") and isinstance(answer.message, str):
            SECRETS.add(answer.message)
            SECRETS.update(re.findall(r'"publishKey":"(\w+)"', answer.message))
        if isinstance(answer.message, dict) and "publishUrl" in answer.message:
            SECRETS.add(answer.message["publishUrl"])
        return answer

    def send_bytes(self, path: str, body: bytes, content_type: str, **headers: str) -> Answer:
        """POSTs a body just as it is."""
        request = _Request.blank(path, method="POST", body=body, headers=headers)
        request.environ["CONTENT_TYPE"] = content_type
        return _answer(_Client(self.app).request(request, status="*"))

    def person(self, phone: str, **profile: str) -> Person:
        """Register a user, and issue a login token to them.

        To log in as well would take as long as to register, and most tests need two users.
        """
        registered = self.post(
            "/register", register="1", userId=phone, password=PASSWORD, **profile
        )
        assert registered.result == "0000", registered
        services = self.app.registry.services
        with services.database.engine.connect() as connection:
            account = Account(*connection.execute(_ACCOUNT, {"phone": phone}).one())
        token = services.login_tokens.issue(account, lifetime_s=7 * 86_400)
        SECRETS.add(token)
        return Person(self.app, {"token": token}, phone)

    def log_in(self, phone: str, **params: str) -> Person:
        answer = self.post("/log", userId=phone, password=PASSWORD, **params)
        assert answer.result == "0000", answer
        return Person(self.app, {"token": answer.message}, phone)


@dataclass
class Phone(Api):
    """Somebody's phone in hardened mode: what it was sent is read from the gateway."""

    number: str = ""

    def __init__(self, app: App, number: str) -> None:
        super().__init__(app)
        self.number = number

    @property
    def sent(self) -> list[str]:
        """The codes that it was sent, the newest last."""
        messages = self.app.registry.services.gateways.sms.sent
        return [message.code for message in messages if message.phone == self.number]

    def ask(self) -> str:
        """Asks for a code; returns the ticket."""
        answer = self.post("/register", token=self.number)
        assert answer.result == "0000", answer
        return str(answer.message)

    def verify(self) -> None:
        answer = self.post("/register", code_v=self.ask(), code=self.sent[-1])
        assert answer.result == "0000", answer

    def register(self, **profile: str) -> Person:
        """Verifies the phone, registers, and logs in."""
        self.verify()
        return self.person(self.number, **profile)


@dataclass
class Person(Api):
    """Somebody who is logged in."""

    phone: str = ""

    @property
    def token(self) -> str:
        return self.always["token"]

    def add(self, other: Person) -> Answer:
        return self.post("/friend", add="1", userId=other.phone)

    def messages(self) -> list[dict[str, Any]]:
        answer = self.post("/list", messagelist="1")
        assert answer.result == "0000", answer
        return list(answer.message)

    def friends(self) -> list[dict[str, Any]]:
        answer = self.post("/list", friendlist="1")
        assert answer.result == "0000", answer
        assert answer.message["count"] == len(answer.message["friends"])
        return list(answer.message["friends"])

    def deal(self, message: dict[str, Any], behaviour: str, **changed: str) -> Answer:
        """Deals with a message as it stood in the list."""
        ids = {name: message[name] for name in ("userId", "verifyId", "objectId")}
        return self.post("/friend", dealMessage="1", behaviour=behaviour, **{**ids, **changed})

    def befriend(self, other: Person) -> None:
        assert self.add(other).result == "0000"
        assert other.deal(other.messages()[0], "accept").result == "0000"

    def refill(self, money: str, **params: str) -> Answer:
        return self.post("/golden", refill="1", money=money, **params)

    def give(self, host: Person, value: str, **params: str) -> Answer:
        gift = {"object": host.phone, "value": value, "description": "a rose", **params}
        return self.post("/golden", send_gift="1", **gift)

    def live(self, **params: str) -> Answer:
        return self.post("/room", live="1", **params)


def described(app_registry: Any) -> dict[str, Any]:
    """The application's own description of the API."""
    whole: dict[str, Any] = json.loads(app_registry.pages["openapi.json"].body)
    return whole


@cache
def _schema(document: bytes, name: str) -> Validator:
    return Draft202012Validator(json.loads(document) | {"$ref": f"#/components/schemas/{name}"})


@lru_cache(1000)
def _check_schema(document: bytes, name: str, body: bytes) -> None:
    """Check a reply; most tests get the same ones again."""
    _schema(document, name).validate(json.loads(body))


def check_reply(event: Any) -> None:
    """Holds every reply of the suite to the envelope, and to what its operation declared."""
    request, response = event.request, event.response
    # A file, or nothing at all to say.
    if request.environ["PATH_INFO"] in ("/healthz", "/readyz") or response.status_int == 204:
        return
    if response.status_int < 400 and request.matched_route.name in ("picture", "page", "static"):
        return
    body = json.loads(response.body)
    document = request.registry.pages.get("openapi.json")
    if document:
        answered = request.operation and body["result"] != Result.NOT_A_CALL.code
        name = f"{request.operation.name}.reply" if answered else "not_a_call"
        _check_schema(document.body, name, response.body)
    result = _RESULTS[body["result"]]
    extra = {"flag"} if body.get("flag") else set()
    assert body.keys() == {"result", "message"} | extra, body
    assert response.headers["Cache-Control"] == "no-store"
    assert (result is Result.OK) != ("X-Refusal" in response.headers), response
    assert response.headers.get("X-Refusal", "").isascii()
    assert result is Result.OK or not extra
    if request.operation is None:
        assert result is Result.NOT_A_CALL
    else:
        assert result in {*request.operation.results, Result.NOT_A_CALL}, (
            f"{request.operation.name} answers {result}, which it did not declare"
        )
    if result not in (Result.OK, Result.NOT_UPDATED):
        assert body["message"] is None


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Makes the calls at the same moment, a thread each; returns their results in order."""
    barrier = threading.Barrier(len(calls), timeout=10)
    results: list[Any] = [None] * len(calls)

    def run(index: int, call: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            results[index] = call()
        except BaseException as error:  # noqa: BLE001  # raised again below, in the test's thread
            results[index] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "a call hangs"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def results(answers: Sequence[Answer]) -> list[str]:
    return sorted(answer.result for answer in answers)
