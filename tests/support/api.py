"""API clients for the tests, and a check that runs on every response."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from sqlalchemy import text
from webtest import TestApp, TestRequest, Upload

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.openapi.schemas import schema_name
from livebackend.api.operation_declaration import Operation
from livebackend.api.possible_errors import possible_errors
from livebackend.api.responses import error_message
from livebackend.api.result_codes import ResultCode
from livebackend.services.login_tokens import CurrentUser

App = Any
# Valid under the password rules of development.ini and of production.ini.
PASSWORD = "harbour-42"

# Secrets sent or received in the running test; the log must contain none of them.
SECRETS_IN_USE: set[str] = set()
_SECRET_PARAMETERS = ("token", "password", "oldPassword", "code", "code_v")

_ACCOUNT = text("SELECT id, phone, token_version FROM accounts WHERE phone = :phone")
_RESULTS_BY_CODE = {result.code: result for result in ResultCode}
_REASONS_BY_TOKEN = {reason.value: reason for reason in ErrorReason}


@dataclass(frozen=True)
class ApiResponse:
    """A response of the API, with its parsed JSON body."""

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
    def error(self) -> str | None:
        return self.headers.get("X-Error")


class _Request(TestRequest):  # type: ignore[misc]  # WebTest has no type hints
    # WebOb stores bodies above this limit in temporary files, which it does not close.
    request_body_tempfile_limit = 2**30


class _Client(TestApp):  # type: ignore[misc]
    RequestClass = _Request
    # pytest does not collect this class as a test.
    __test__ = False


def _parse(response: Any) -> ApiResponse:
    return ApiResponse(response.status_int, json.loads(response.body), dict(response.headers))


@dataclass
class ApiClient:
    """API client without a login token."""

    app: App
    # The client adds these parameters to every request.
    default_parameters: dict[str, str] = field(default_factory=dict)

    def post(self, path: str, **params: str | Upload) -> ApiResponse:
        return self.post_form(path, {**self.default_parameters, **params})

    def post_form(self, path: str, form: Any, **options: Any) -> ApiResponse:
        """POST a form; `upload_files` in `options` adds files."""
        response = _parse(_Client(self.app).post(path, form, status="*", **options))
        if isinstance(form, dict):
            SECRETS_IN_USE.update(str(form[name]) for name in _SECRET_PARAMETERS if form.get(name))
        if path in ("/log", "/register", "/room") and isinstance(response.message, str):
            SECRETS_IN_USE.add(response.message)
            SECRETS_IN_USE.update(re.findall(r'"publishKey":"(\w+)"', response.message))
        if isinstance(response.message, dict) and "publishUrl" in response.message:
            SECRETS_IN_USE.add(response.message["publishUrl"])
        if isinstance(response.message, dict) and "url" in response.message:
            SECRETS_IN_USE.add(response.message["url"].partition("ticket=")[2])
        return response

    def post_bytes(self, path: str, body: bytes, content_type: str, **headers: str) -> ApiResponse:
        """POST `body` unchanged, with the header `Content-Type: content_type`."""
        request = _Request.blank(path, method="POST", body=body, headers=headers)
        request.environ["CONTENT_TYPE"] = content_type
        return _parse(_Client(self.app).request(request, status="*"))

    def register_user(self, phone: str, **profile: str) -> UserClient:
        """Register a user, and issue a login token without a login request.

        Without the login request, the password is hashed only once, which saves half of the time.
        """
        response = self.post("/register", register="1", userId=phone, password=PASSWORD, **profile)
        assert response.result == "0000", response
        services = self.app.registry.services
        with services.database.engine.connect() as connection:
            account = CurrentUser(*connection.execute(_ACCOUNT, {"phone": phone}).one())
        token = services.login_tokens.issue(account, lifetime_s=7 * 86_400)
        SECRETS_IN_USE.add(token)
        return UserClient(self.app, {"token": token}, phone)

    def log_in(self, phone: str, **params: str) -> UserClient:
        response = self.post("/log", userId=phone, password=PASSWORD, **params)
        assert response.result == "0000", response
        return UserClient(self.app, {"token": response.message}, phone)


@dataclass
class PhoneClient(ApiClient):
    """API client of a phone number; it reads the verification codes sent by SMS."""

    number: str = ""

    def __init__(self, app: App, number: str) -> None:
        super().__init__(app)
        self.number = number

    @property
    def received_codes(self) -> list[str]:
        """Verification codes sent to this phone, newest last."""
        services = self.app.registry.services
        assert services.sms_queue.wait_until_empty(timeout_s=10)
        return [
            message.code for message in services.gateways.sms.sent if message.phone == self.number
        ]

    def request_code(self) -> str:
        """Request a verification code; return the ticket."""
        response = self.post("/register", token=self.number)
        assert response.result == "0000", response
        return str(response.message)

    def verify(self) -> None:
        response = self.post("/register", code_v=self.request_code(), code=self.received_codes[-1])
        assert response.result == "0000", response

    def register(self, **profile: str) -> UserClient:
        """Verify the phone and register; return a client with a login token."""
        self.verify()
        return self.register_user(self.number, **profile)


@dataclass
class UserClient(ApiClient):
    """API client with a login token."""

    phone: str = ""

    @property
    def token(self) -> str:
        return self.default_parameters["token"]

    def with_app(self, app: App) -> UserClient:
        """Return a client of another application with the token of this user."""
        return UserClient(app, dict(self.default_parameters), self.phone)

    def send_friend_request(self, addressee: UserClient) -> ApiResponse:
        return self.post("/friend", add="1", userId=addressee.phone)

    def messages(self) -> list[dict[str, Any]]:
        response = self.post("/list", messagelist="1")
        assert response.result == "0000", response
        return list(response.message)

    def friends(self) -> list[dict[str, Any]]:
        response = self.post("/list", friendlist="1")
        assert response.result == "0000", response
        assert response.message["count"] == len(response.message["friends"])
        return list(response.message["friends"])

    def deal_message(
        self, message: dict[str, Any], behaviour: str, **changed_params: str
    ) -> ApiResponse:
        """Accept or delete a friend request message that `messages` returned."""
        message_ids = {name: message[name] for name in ("userId", "verifyId", "objectId")}
        return self.post(
            "/friend", dealMessage="1", behaviour=behaviour, **{**message_ids, **changed_params}
        )

    def befriend(self, friend: UserClient) -> None:
        assert self.send_friend_request(friend).result == "0000"
        assert friend.deal_message(friend.messages()[0], "accept").result == "0000"

    def refill(self, money: str, **params: str) -> ApiResponse:
        return self.post("/golden", refill="1", money=money, **params)

    def send_gift(self, host: UserClient, value: str, **params: str) -> ApiResponse:
        gift_params = {"object": host.phone, "value": value, "description": "a rose", **params}
        return self.post("/golden", send_gift="1", **gift_params)

    def go_live(self, **params: str) -> ApiResponse:
        return self.post("/room", live="1", **params)


def wrong_code(code: str, nth: int = 1) -> str:
    """Return the n-th code that has the length of the correct code and differs from it."""
    return f"{(int(code) + nth) % 10 ** len(code):0{len(code)}}"


def openapi_document(app_registry: Any) -> dict[str, Any]:
    """Return the OpenAPI document by path of the application."""
    document: dict[str, Any] = json.loads(app_registry.pages["openapi.json"].body)
    return document


@cache
def _schema(document: bytes, name: str) -> Validator:
    return Draft202012Validator(json.loads(document) | {"$ref": f"#/components/schemas/{name}"})


@cache
def _path_schema(document: bytes, path: str) -> Validator:
    parsed_document = json.loads(document)
    response = parsed_document["paths"][path]["post"]["responses"]["200"]
    return Draft202012Validator(parsed_document | response["content"]["application/json"]["schema"])


@lru_cache(1000)
def _check_schema(document: bytes, name: str, path: str, body: bytes) -> None:
    """Validate a response body; results are cached, because most bodies occur often."""
    _schema(document, name).validate(json.loads(body))
    if path:
        _path_schema(document, path).validate(json.loads(body))


_POSSIBLE_ERRORS: dict[str, Mapping[ResultCode, Sequence[ErrorReason]]] = {}


def check_response(event: Any) -> None:
    """Check that a response is a documented one of its operation."""
    request, response = event.request, event.response
    # Responses to health checks, and responses with status 204, have no envelope.
    if request.environ["PATH_INFO"] in ("/healthz", "/readyz") or response.status_int == 204:
        return
    file_routes = ("home", "page", "picture", "static", "event_stream")
    if response.status_int < 400 and request.matched_route.name in file_routes:
        return
    body = json.loads(response.body)
    result = _RESULTS_BY_CODE[body["result"]]
    document = request.registry.pages.get("openapi.json")
    if document:
        is_success = result is ResultCode.OK
        name = schema_name(request.operation, "Response") if is_success else "Error"
        path = request.environ["PATH_INFO"] if is_success else ""
        _check_schema(document.body, name, path, response.body)
    optional_keys = {"flag"} if body.get("flag") else set()
    assert body.keys() == {"result", "message"} | optional_keys, body
    assert response.headers["Cache-Control"] == "no-store"
    assert (result is ResultCode.OK) != ("X-Error" in response.headers), response
    if result is not ResultCode.OK:
        assert body["message"] == error_message(result)
        assert not optional_keys
        _check_error(request.operation, result, response.headers["X-Error"])


def _check_error(operation: Operation | None, result: ResultCode, header: str) -> None:
    assert header.isascii()
    if result is ResultCode.INVALID_REQUEST:
        return
    assert operation
    if operation.name not in _POSSIBLE_ERRORS:
        _POSSIBLE_ERRORS[operation.name] = possible_errors(operation)
    reason = _REASONS_BY_TOKEN[header.split("; reason=")[1].partition(";")[0]]
    assert reason in _POSSIBLE_ERRORS[operation.name].get(result, ()), (
        f"{operation.name} returned {result} with {reason}, which it does not declare"
    )


def run_concurrently(*calls: Callable[[], Any]) -> list[Any]:
    """Run each call in its own thread at the same time; return the results in order."""
    barrier = threading.Barrier(len(calls), timeout=10)
    results: list[Any] = [None] * len(calls)

    def run(index: int, call: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            results[index] = call()
        except BaseException as error:  # noqa: BLE001  # the main thread raises the exception again
            results[index] = error

    threads = [threading.Thread(target=run, args=indexed_call) for indexed_call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "a call did not return within 60 s"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def sorted_results(responses: Sequence[ApiResponse]) -> list[str]:
    return sorted(response.result for response in responses)
