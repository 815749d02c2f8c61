"""Hooks of schemathesis: requests reach their operation, and each operation succeeds once."""

import os
from collections.abc import Mapping
from itertools import count
from typing import Any

import requests
import schemathesis

from tests.support.api import PASSWORD
from tests.support.pictures import RED, encode_image

ADDRESS = os.environ["CONTRACT_TEST_ADDRESS"]
# The users in the examples of the OpenAPI documents.
ANN_PHONE, BEN_PHONE = "13800000001", "13800000002"
PICTURE = encode_image(RED, "PNG")
# The selectors of the operations that revoke the login token or close the room.
ENDING_SELECTORS = {"change", "leave", "logout", "remove"}
# These operations need a code that only the SMS has.
OPERATIONS_WITH_CODE = {"POST /log#reset_password", "POST /register#verify_code"}


def post(path: str, files: Mapping[str, bytes] | None = None, **form: str) -> Any:
    """Send a request, and return the message of the response."""
    response = requests.post(f"{ADDRESS}/{path}", data=form, files=files, timeout=10).json()
    assert response["result"] == "0000", (path, response)
    return response["message"]


def new_live_user(phone: str) -> str:
    """Register a user who goes live; return the login token."""
    post("register", register="1", userId=phone, password=PASSWORD)
    token: str = post("log", userId=phone, password=PASSWORD)
    post("room", live="1", token=token)
    return token


class CurrentUser:
    """The user of the requests: a live host with coins, a friend, and a friend request."""

    def __init__(self) -> None:
        self._ann = new_live_user(ANN_PHONE)
        self._ben = new_live_user(BEN_PHONE)
        self._phones = map(str, count(13_900_000_000))
        self._token: str | None = None

    @property
    def token(self) -> str:
        """The login token."""
        if self._token is None:
            phone = self.unregistered_phone()
            self._token = new_live_user(phone)
            post("golden", refill="1", token=self._token, money="100")
            for friend_token in (self._ann, self._ben):
                post("friend", add="1", token=friend_token, userId=phone)
            post("friend", add="1", token=self._token, userId=ANN_PHONE)
        return self._token

    def unregistered_phone(self) -> str:
        return next(self._phones)

    def replace(self) -> None:
        """Register another user for the next request."""
        self._token = None

    def replace_offline(self) -> None:
        """Register another user, without an open room."""
        self.replace()
        post("room", leave="1", token=self.token)


def before_call(context: Any, case: Any, arguments: Any) -> None:
    """Change a form so that the request reaches the operation, and can succeed."""
    if not isinstance(case.body, dict):
        return
    operation = case.operation.definition.raw
    # Without the selector, the form can be a valid one of another operation.
    if operation.get("x-selector"):
        case.body[operation["x-selector"]] = "1"
    if operation["operationId"] == "remove":
        USER.replace_offline()
    # The parameter `token` of `send_code` is a phone number. Some requests keep a random login
    # token, which is invalid.
    token = case.body.get("token")
    if isinstance(token, str) and not token.isdigit() and next(REQUEST_NUMBERS) % 5:
        case.body["token"] = USER.token
    if operation["operationId"] in ("send_code", "register"):
        phone = USER.unregistered_phone()
        case.body = {
            name: phone if value == ANN_PHONE else value for name, value in case.body.items()
        }
    if case.meta.generation.mode.is_positive:
        case.body = {name: valid_value(name, value) for name, value in case.body.items()}


def valid_value(name: str, value: Any) -> Any:
    """Return a value that the server accepts, although the schema is less strict."""
    if name == "img":
        return PICTURE
    if name == "headImage":
        return post("upload", files={"img": PICTURE})
    # Schemathesis sends the items of a list as parameters of the same name, which is invalid. The
    # documents have no list, but random unknown parameters are lists.
    return str(value) if isinstance(value, list | dict) else value


def after_call(context: Any, case: Any, response: Any) -> None:
    """Use another user after an operation that revoked the token or closed the room."""
    is_ending = isinstance(case.body, dict) and ENDING_SELECTORS & case.body.keys()
    if is_ending and response.json()["result"] == "0000":
        USER.replace()


class EachOperationSucceeds:
    """A check that fails if an operation never has a successful response."""

    def __init__(self) -> None:
        self._tested: set[str] = set()
        self._successful: set[str] = set()

    def after_response(self, context: Any, response: Any, case: Any) -> None:
        self._tested.add(case.operation.label)
        if response.json().get("result") == "0000":
            self._successful.add(case.operation.label)

    def after_run(self, context: Any) -> None:
        if failing := self._tested - self._successful - OPERATIONS_WITH_CODE:
            raise AssertionError(f"these operations never succeed: {sorted(failing)}")


REQUEST_NUMBERS = count()
USER = CurrentUser()
schemathesis.hook(before_call)
schemathesis.hook(after_call)
schemathesis.check(EachOperationSucceeds)
