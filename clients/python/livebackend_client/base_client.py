"""Base class of the client: sends API calls, retries safe calls, reads responses."""

import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, cast, is_typeddict

import requests

from livebackend_client.errors import (
    ApiError,
    ConnectionFailed,
    InvalidResponse,
    OperationRefused,
    ServerUnavailable,
)
from livebackend_client.results import FINAL_REASONS, NOT_PROCESSED, OK

T = TypeVar("T")
# A path, or a seekable file object that is open for reading bytes.
File = str | os.PathLike[str] | BinaryIO
# Accepted types of a JSON value: str, list, NoneType or a TypedDict class.
JsonTypes = tuple[type[Any], ...]

_RETRY_WAIT_S = 0.2


@dataclass(frozen=True)
class OperationSpec(Generic[T]):
    """Description of one operation; T is the type that the client returns."""

    path: str
    message_types: JsonTypes
    selector: str | None = None
    # True if the message is a string that contains JSON; `message_types` are then the types of
    # the parsed JSON.
    message_is_json: bool = False
    # Fields of the response envelope that the client returns in a tuple after the message.
    extra_fields: Mapping[str, JsonTypes] = field(default_factory=dict)
    # Names of parameters that are files.
    file_parameters: tuple[str, ...] = ()
    requires_login: bool = False
    idempotent: bool = False
    # If the first request was executed, the server rejects a retry with this error reason.
    already_done_reason: str | None = None
    # Whether the operation has the parameter `requestId`. If the caller passes none, the client
    # creates a value.
    has_request_id: bool = False


class BaseClient:
    """Sends API calls to one server, as the user of `token` if `token` is set."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        max_attempts: int = 3,
        max_retry_wait_s: float = 5.0,
        session: requests.Session | None = None,
    ) -> None:
        """Configure the client; send nothing yet.

        `max_attempts` is the maximum number of attempts; a call is retried only if that is safe.
        `max_retry_wait_s` limits the wait between two attempts, also if Retry-After is longer.
        """
        self.address = address.rstrip("/")
        self.token = token
        self.timeout_s = timeout_s
        self.max_attempts = max_attempts
        self.max_retry_wait_s = max_retry_wait_s
        self.session = session or requests.Session()

    def call(self, operation: OperationSpec[T], **params: str | int | File | None) -> T:
        """Send a call and return the message of the response.

        Raises OperationRefused if the server rejects the request, ServerUnavailable if the server
        cannot process it now, and InvalidResponse if there is no valid response. If
        `outcome_unknown` of the error is true, retry with the error's `request_id`.
        """
        parameters = {name: value for name, value in params.items() if value is not None}
        if operation.selector:
            parameters[operation.selector] = "1"
        if operation.requires_login and self.token is not None:
            parameters["token"] = self.token
        if operation.has_request_id:
            parameters.setdefault("requestId", uuid.uuid4().hex)
        attempts = self.max_attempts if operation.idempotent or operation.has_request_id else 1
        try:
            return self._send_with_retries(operation, parameters, attempts)
        except ApiError as error:
            if operation.has_request_id:
                error.request_id = str(parameters["requestId"])
            raise

    def _send_with_retries(
        self, operation: OperationSpec[T], parameters: Mapping[str, Any], attempts: int
    ) -> T:
        """Send a call until the server executes or rejects it, at most `attempts` times."""
        is_outcome_unknown = False
        for remaining_attempts in reversed(range(attempts)):
            try:
                return self._send_once(operation, parameters)
            except ApiError as error:
                if is_outcome_unknown and _shows_executed(operation, error):
                    return cast(T, _checked_type(None, operation.message_types))
                is_outcome_unknown = error.outcome_unknown or (
                    is_outcome_unknown and not _shows_not_executed(error)
                )
                error.outcome_unknown = is_outcome_unknown
                wait_s = _retry_after_s(operation, error)
                if wait_s is None or not remaining_attempts:
                    raise
            time.sleep(min(wait_s, self.max_retry_wait_s))
        raise AssertionError("unreachable: the last try returns or raises")

    def _send_once(self, operation: OperationSpec[T], parameters: Mapping[str, Any]) -> T:
        try:
            return _read_response(operation, self._post(operation, parameters))
        except (requests.ConnectionError, requests.Timeout) as error:
            raise ConnectionFailed(str(error)) from error
        except requests.RequestException as error:
            raise InvalidResponse(str(error)) from error

    def _post(
        self, operation: OperationSpec[T], parameters: Mapping[str, Any]
    ) -> requests.Response:
        with ExitStack() as opened:
            fields, files = {}, {}
            for name, value in parameters.items():
                if name not in operation.file_parameters:
                    fields[name] = str(value)
                elif isinstance(value, str | os.PathLike):
                    files[name] = opened.enter_context(Path(value).open("rb"))
                else:
                    value.seek(0)
                    files[name] = value
            return self.session.post(
                self.address + operation.path,
                data=fields,
                files=files or None,
                timeout=self.timeout_s,
            )


def _shows_not_executed(error: ApiError) -> bool:
    """Return whether the error shows that no earlier attempt was executed."""
    return isinstance(error, OperationRefused) and error.reason in FINAL_REASONS


def _shows_executed(operation: OperationSpec[Any], error: ApiError) -> bool:
    """Return whether the error of a retry shows that an earlier attempt was executed."""
    return (
        operation.already_done_reason is not None
        and isinstance(error, OperationRefused)
        and error.reason == operation.already_done_reason
    )


def _retry_after_s(operation: OperationSpec[Any], error: ApiError) -> float | None:
    """Return the seconds to wait before a retry; None if a retry cannot help."""
    if isinstance(error, ServerUnavailable):
        return error.retry_after_s
    if isinstance(error, InvalidResponse):
        return _RETRY_WAIT_S
    if isinstance(error, OperationRefused) and operation.has_request_id:
        is_server_error = error.status >= requests.codes.server_error
        return _RETRY_WAIT_S if is_server_error or error.reason == NOT_PROCESSED else None
    return None


def _read_response(operation: OperationSpec[T], response: requests.Response) -> T:
    """Return the message of a response.

    If the response has extra fields, returns a tuple that starts with the message. Raises
    OperationRefused or InvalidResponse.
    """
    try:
        body = response.json()
        code = body["result"]
        if code == OK:
            message = json.loads(body["message"]) if operation.message_is_json else body["message"]
            message = _checked_type(message, operation.message_types)
            extra_values = (
                _checked_type(body[name], accepted_types)
                for name, accepted_types in operation.extra_fields.items()
            )
            return cast(T, (message, *extra_values)) if operation.extra_fields else message
        _checked_type(code, (str,))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidResponse(
            f"the response is not from this API (HTTP status {response.status_code}): {error}"
        ) from error
    raise _refusal(code, response)


def _checked_type(value: Any, accepted_types: JsonTypes) -> Any:
    """Return the JSON value; raise TypeError unless it has an accepted type.

    Checks the type of the value and the keys of an object, but not the values of the object.
    """
    if any(_is_of_type(value, accepted_type) for accepted_type in accepted_types):
        return value
    expected = " or ".join(accepted_type.__name__ for accepted_type in accepted_types)
    raise TypeError(f"expected {expected}, got {type(value).__name__}")


def _is_of_type(value: Any, accepted_type: type[Any]) -> bool:
    if is_typeddict(accepted_type):
        return isinstance(value, dict) and accepted_type.__required_keys__ <= value.keys()
    return isinstance(value, accepted_type)


def _refusal(code: str, response: requests.Response) -> OperationRefused:
    error, status = response.headers.get("X-Error"), response.status_code
    if status != requests.codes.service_unavailable:
        is_server_error = status >= requests.codes.server_error
        return OperationRefused(code, error=error, status=status, outcome_unknown=is_server_error)
    retry_after = response.headers.get("Retry-After", "")
    return ServerUnavailable(
        code,
        error=error,
        outcome_unknown=response.headers.get("X-Request-Outcome") == "unknown",
        retry_after_s=float(retry_after) if retry_after.isdecimal() else 1.0,
        retry_request_id=response.headers.get("X-Retry-Request-Id"),
    )
