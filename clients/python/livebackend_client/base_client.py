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
Shape = tuple[type[Any], ...]

_RETRY_WAIT_S = 0.2


@dataclass(frozen=True)
class OperationSpec(Generic[T]):
    """Description of one operation; T is the type that the client returns."""

    path: str
    message: Shape
    selector: str | None = None
    # True if the message is a string that contains JSON; `message` is then the type of that JSON.
    message_is_json: bool = False
    # Fields of the response envelope that the client returns after the message.
    extra_fields: Mapping[str, Shape] = field(default_factory=dict)
    # Names of parameters that are files.
    file_parameters: tuple[str, ...] = ()
    requires_login: bool = False
    idempotent: bool = False
    # The error reason of a retry if the first request was executed.
    already_done_reason: str | None = None
    # The client creates a `requestId` if the caller passes none.
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
        tries = self.max_attempts if operation.idempotent or operation.has_request_id else 1
        try:
            return self._send_with_retries(operation, parameters, tries)
        except ApiError as error:
            if operation.has_request_id:
                error.request_id = str(parameters["requestId"])
            raise

    def _send_with_retries(
        self, operation: OperationSpec[T], parameters: Mapping[str, Any], tries: int
    ) -> T:
        """Send a call until the server executes or rejects it, at most `tries` times."""
        is_unknown = False
        for remaining in reversed(range(tries)):
            try:
                return self._send_once(operation, parameters)
            except ApiError as error:
                if is_unknown and _means_done(operation, error):
                    return cast(T, _matching(None, operation.message))
                is_unknown = error.outcome_unknown or (is_unknown and not _is_final(error))
                error.outcome_unknown = is_unknown
                wait_s = _retry_after_s(operation, error)
                if wait_s is None or not remaining:
                    raise
            time.sleep(min(wait_s, self.max_retry_wait_s))
        raise AssertionError("unreachable: the last try returns or raises")

    def _send_once(self, operation: OperationSpec[T], parameters: Mapping[str, Any]) -> T:
        try:
            return _read(operation, self._post(operation, parameters))
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


def _is_final(error: ApiError) -> bool:
    """Return whether the error shows that no earlier attempt was executed."""
    return isinstance(error, OperationRefused) and error.reason in FINAL_REASONS


def _means_done(operation: OperationSpec[Any], error: ApiError) -> bool:
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
        is_failure = error.status >= requests.codes.server_error
        return _RETRY_WAIT_S if is_failure or error.reason == NOT_PROCESSED else None
    return None


def _read(operation: OperationSpec[T], response: requests.Response) -> T:
    """Return the message of a response. Raises OperationRefused or InvalidResponse."""
    try:
        body = response.json()
        code = body["result"]
        if code == OK:
            message = json.loads(body["message"]) if operation.message_is_json else body["message"]
            message = _matching(message, operation.message)
            extra = (_matching(body[name], shape) for name, shape in operation.extra_fields.items())
            return cast(T, (message, *extra)) if operation.extra_fields else message
        _matching(code, (str,))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidResponse(
            f"the response is not from this API (HTTP status {response.status_code}): {error}"
        ) from error
    raise _error(code, response)


def _matching(value: Any, shape: Shape) -> Any:
    """Return the JSON value if it has one of the types of `shape`. Raises TypeError.

    Checks the type of the value and the keys of an object, but not the values of the object.
    """
    if any(_is_of_type(value, kind) for kind in shape):
        return value
    expected = " or ".join(kind.__name__ for kind in shape)
    raise TypeError(f"expected {expected}, got {type(value).__name__}")


def _is_of_type(value: Any, kind: type[Any]) -> bool:
    if is_typeddict(kind):
        return isinstance(value, dict) and kind.__required_keys__ <= value.keys()
    return isinstance(value, kind)


def _error(code: str, response: requests.Response) -> OperationRefused:
    error, status = response.headers.get("X-Error"), response.status_code
    if status != requests.codes.service_unavailable:
        is_failure = status >= requests.codes.server_error
        return OperationRefused(code, error=error, status=status, outcome_unknown=is_failure)
    after = response.headers.get("Retry-After", "")
    return ServerUnavailable(
        code,
        error=error,
        outcome_unknown=response.headers.get("X-Request-Outcome") == "unknown",
        retry_after_s=float(after) if after.isdecimal() else 1.0,
        retry_request_id=response.headers.get("X-Retry-Request-Id"),
    )
