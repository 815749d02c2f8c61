"""The protocol of the API without input and output: requests, responses, retries."""

import os
import re
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, cast

import httpx

from livebackend_client.error_reasons import ErrorReason
from livebackend_client.errors import (
    ApiError,
    ConnectionFailed,
    InvalidResponse,
    OperationRefused,
    ServerUnavailable,
)
from livebackend_client.json_reader import UnexpectedValue, parse_json, read, read_fields
from livebackend_client.result_exceptions import RESULT_EXCEPTIONS

T = TypeVar("T")
# A path, or a seekable file object that is open for reading bytes.
File = str | os.PathLike[str] | BinaryIO
# The name and the content of a file.
FileContent = tuple[str, bytes]

_OK = "0000"
_RETRY_WAIT_S = 0.2
# Before the ledger returns one of these errors, it looks up the request id. Each of these errors
# therefore shows that no earlier attempt of the same request has moved coins.
_FINAL_REASONS = (
    ErrorReason.INSUFFICIENT_COINS,
    ErrorReason.BALANCE_LIMIT,
    ErrorReason.REQUEST_ID_REUSED,
)


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """Description of one operation; T is the type that the client returns."""

    path: str
    message_type: Any
    selector: str | None = None
    # True if the message is a string that contains JSON; `message_type` is then the type of the
    # parsed JSON.
    message_is_json: bool = False
    # Types of fields of the response envelope besides `message`, and the type that the client
    # returns: it is called with the message and these fields.
    extra_fields: Mapping[str, Any] = field(default_factory=dict)
    result_type: Callable[..., T] | None = None
    # Names of parameters that are files.
    file_parameters: tuple[str, ...] = ()
    requires_login: bool = False
    idempotent: bool = False
    # If the first request was executed, the server rejects a retry with this error reason.
    already_done_reason: ErrorReason | None = None
    # Whether the operation has the parameter `requestId`. If the caller passes none or an empty
    # one, the client creates a value.
    has_request_id: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A form for a path of the server; `files` has file names and contents."""

    path: str
    # Values can be secret, so repr() omits them.
    fields: Mapping[str, str] = field(repr=False)
    files: Mapping[str, FileContent] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause before the next attempt."""

    seconds: float


# What a client must do next, and the result: for a Request, the response or the error of httpx.
Step = Request | Wait
Outcome = httpx.Response | httpx.RequestError | None
Steps = Generator[Step, Outcome, T]


def call_steps(
    operation: Operation[T],
    parameters: Mapping[str, object],
    *,
    token: str | None,
    max_attempts: int,
    max_retry_wait_s: float,
) -> Steps[T]:
    """Yield the steps of a call, and receive their outcomes; return the message of the response.

    `parameters` are those that `read_files` returns. Throw an exception that ends a step, such as
    CancelledError, into the generator: it adds the idempotency key as a note, and raises it again.

    Raises OperationRefused if the server rejects the request, ServerUnavailable if the server
    cannot process it now, and InvalidResponse if there is no valid response. If `outcome_unknown`
    of the error is true, retry with the error's `request_id`. Raises ValueError for a text that is
    not valid Unicode.
    """
    request = _request(operation, parameters, token)
    request_id = request.fields.get("requestId")
    attempts = max_attempts if operation.idempotent or operation.has_request_id else 1
    try:
        return (yield from _attempts(operation, request, attempts, max_retry_wait_s))
    except ApiError as error:
        error.request_id = request_id
        raise
    except BaseException as error:
        # The call was cancelled or interrupted, so its outcome is unknown.
        if request_id is not None:
            error.add_note(f"request_id {request_id}")
        raise


def read_files(operation: Operation[Any], parameters: Mapping[str, object]) -> Mapping[str, object]:
    """Replace the files in the parameters by their names and contents; this blocks."""
    contents = {
        name: _read_file(cast(File, parameters[name]))
        for name in operation.file_parameters
        if parameters.get(name) is not None
    }
    return {**parameters, **contents}


def _request(
    operation: Operation[Any], parameters: Mapping[str, object], token: str | None
) -> Request:
    values = {name: value for name, value in parameters.items() if value is not None}
    if operation.selector:
        values[operation.selector] = "1"
    if operation.requires_login and token is not None:
        values["token"] = token
    if operation.has_request_id:
        # The server treats an empty parameter as absent, so an empty key protects no retry.
        values["requestId"] = values.get("requestId") or uuid.uuid4().hex
    files = {
        name: cast(FileContent, values.pop(name))
        for name in operation.file_parameters
        if name in values
    }
    return Request(operation.path, {name: _text(name, values[name]) for name in values}, files)


def _text(name: str, value: object) -> str:
    text = str(value)
    with suppress(UnicodeEncodeError):
        text.encode()
        return text
    # Raised here, because the suppressed exception has the whole text, which can be secret.
    raise ValueError(f"{name} is not valid Unicode")


def _read_file(file: File) -> FileContent:
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        # A file name can have bytes that are not valid Unicode.
        return path.name.encode(errors="replace").decode(), path.read_bytes()
    file.seek(0)
    return "upload", file.read()


def _attempts(
    operation: Operation[T], request: Request, max_attempts: int, max_retry_wait_s: float
) -> Steps[T]:
    """Send a request until the server executes or rejects it, at most `max_attempts` times."""
    is_outcome_unknown = False
    # X-Request-Id of the first attempt that left the outcome unknown, and of the last response.
    unknown_attempt_id: str | None = None
    last_id: str | None = None
    remaining_attempts = max_attempts
    while True:
        remaining_attempts -= 1
        outcome = yield request
        try:
            return _read_outcome(operation, outcome)
        except ApiError as error:
            if is_outcome_unknown and _shows_executed(operation, error):
                return cast(T, None)  # such operations have no message
            last_id = error.server_request_id or last_id
            if error.outcome_unknown:
                unknown_attempt_id = unknown_attempt_id or error.server_request_id
            is_outcome_unknown = error.outcome_unknown or (
                is_outcome_unknown and not _shows_not_executed(error)
            )
            error.outcome_unknown = is_outcome_unknown
            error.server_request_id = (is_outcome_unknown and unknown_attempt_id) or last_id
            wait_s = _retry_after_s(operation, error)
            if wait_s is None or remaining_attempts <= 0:
                raise
        yield Wait(min(wait_s, max_retry_wait_s))


def _shows_not_executed(error: ApiError) -> bool:
    """Return whether the error shows that no earlier attempt was executed."""
    return isinstance(error, OperationRefused) and error.reason in _FINAL_REASONS


def _shows_executed(operation: Operation[Any], error: ApiError) -> bool:
    """Return whether the error of a retry shows that an earlier attempt was executed."""
    return (
        operation.already_done_reason is not None
        and isinstance(error, OperationRefused)
        and error.reason == operation.already_done_reason
    )


def _retry_after_s(operation: Operation[Any], error: ApiError) -> float | None:
    """Return the seconds to wait before a retry; None if a retry cannot help."""
    if isinstance(error, ServerUnavailable):
        return error.retry_after_s
    if not isinstance(error, OperationRefused):
        return _RETRY_WAIT_S  # no response, or an invalid one
    # With LEDGER_BUSY, the request left the queue before the ledger processed it.
    is_temporary = error.status >= 500 or error.reason == ErrorReason.LEDGER_BUSY
    if not (is_temporary and operation.has_request_id):
        return None
    return _RETRY_WAIT_S if error.retry_after_s is None else error.retry_after_s


def _read_outcome(operation: Operation[T], outcome: Outcome) -> T:
    """Return the message of a response; raise ApiError."""
    if not isinstance(outcome, httpx.Response):
        # The exception of httpx is no cause of the error, because it has the form with its secrets.
        is_transport_error = isinstance(outcome, httpx.TransportError)
        error_type = ConnectionFailed if is_transport_error else InvalidResponse
        raise error_type(f"{type(outcome).__name__}: {outcome}")
    try:
        return _read_response(operation, outcome)
    except ApiError as error:
        error.server_request_id = outcome.headers.get("X-Request-Id")
        raise


def _read_response(operation: Operation[T], response: httpx.Response) -> T:
    try:
        body = parse_json(response.content)
        code = _read_result_code(body)
        if code == _OK:
            return _read_message(operation, body)
    except UnexpectedValue as error:
        raise InvalidResponse(
            f"the response is not from this API (HTTP status {response.status_code}): {error}"
        ) from error
    raise _result_exception(code, response)


def _read_result_code(body: object) -> str:
    code: str = read_fields(body, {"result": str}, "body")["result"]
    if not re.fullmatch("[0-9]{4}", code):
        raise UnexpectedValue("body.result is not a result code")
    return code


def _read_message(operation: Operation[T], body: object) -> T:
    """Return the message of a successful response, or the result type of the operation."""
    message_type = str if operation.message_is_json else operation.message_type
    types = {"message": message_type, **operation.extra_fields}
    message, *extra_values = read_fields(body, types, "body").values()
    if operation.message_is_json:
        message = read(parse_json(message), operation.message_type, "message")
    if operation.result_type:
        return operation.result_type(message, *extra_values)
    return cast(T, message)


def _result_exception(code: str, response: httpx.Response) -> OperationRefused:
    headers, status = response.headers, response.status_code
    error_header, retry_after = headers.get("X-Error", ""), headers.get("Retry-After", "")
    retry_after_s = float(retry_after) if retry_after.isdecimal() else None
    if status != httpx.codes.SERVICE_UNAVAILABLE:
        return RESULT_EXCEPTIONS.get(code, OperationRefused)(
            code,
            status=status,
            error_header=error_header,
            outcome_unknown=status >= 500,
            retry_after_s=retry_after_s,
        )
    return ServerUnavailable(
        code,
        error_header=error_header,
        outcome_unknown=headers.get("X-Request-Outcome") == "unknown",
        retry_after_s=1.0 if retry_after_s is None else retry_after_s,
        retry_request_id=headers.get("X-Retry-Request-Id"),
    )
