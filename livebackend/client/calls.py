"""A call of the API from Python: sent, repeated where that is harmless, its reply judged."""

import os
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import requests
from pydantic import TypeAdapter, ValidationError

from livebackend.api.error_reasons import Reason
from livebackend.api.result_codes import Result

T = TypeVar("T")
# A path, or a file that is open for reading bytes and can be rewound.
File = str | os.PathLike[str] | BinaryIO

_WAIT_S = 0.2
_WAIT_S_MAX = 5.0


class ApiError(Exception):
    """A call that failed.

    If `outcome_unknown`, it can have been done nevertheless, by this attempt or by one before it.
    `request_id` is the `requestId` that a refill or a gift was sent with: a later call with the
    same one moves coins at most once.
    """

    outcome_unknown: bool = False
    request_id: str | None = None


class Refused(ApiError):
    """The server refused the call: `code` is its result, `refusal` the reason."""

    def __init__(
        self, code: str, *, refusal: str | None, status: int, outcome_unknown: bool = False
    ) -> None:
        meaning = next((each.english for each in Result if each.code == code), "")
        super().__init__(f"{code} {meaning}" + (f": {refusal}" if refusal else ""))
        self.code = code
        # What the header X-Refusal says: the parameter and the reason.
        self.refusal = refusal
        self.status = status
        self.outcome_unknown = outcome_unknown

    @property
    def reason(self) -> str | None:
        """The reason without the parameter."""
        return self.refusal.partition(" ")[2] if self.refusal else None


class NotServed(Refused):
    """The server cannot serve the call now (503).

    `retry_request_id` is the `requestId` that the server asks for in a retry (X-Repeat-As), None
    for other calls than refills and gifts.
    """

    def __init__(
        self,
        code: str,
        *,
        refusal: str | None,
        outcome_unknown: bool,
        retry_after_s: float,
        retry_request_id: str | None,
    ) -> None:
        super().__init__(code, refusal=refusal, status=503, outcome_unknown=outcome_unknown)
        self.retry_after_s = retry_after_s
        self.retry_request_id = retry_request_id


class NoReply(ApiError):
    """No response, or none of this API."""

    outcome_unknown = True


class NotReached(NoReply):
    """The server is not there, does not answer in time, or the connection broke."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """An operation, as it is called."""

    path: str
    message: TypeAdapter[T]
    selector: str | None = None
    # Names of what stands beside the message in a successful reply.
    beside: tuple[str, ...] = ()
    # Names of parameters that are files.
    files: tuple[str, ...] = ()
    login: bool = False
    # Done twice, it does no more than done once.
    repeatable: bool = False
    # The reason by which a retry is refused if the first request was done.
    already_done: str | None = None
    # Made harmless to repeat by an id, which is made here if none is given.
    has_request_id: bool = False


# Reasons that the ledger gives after it has looked up the request id: this request is not booked.
_FINAL = {Reason.NOT_ENOUGH_COINS, Reason.TOO_MANY_COINS, Reason.USED_OTHERWISE}


def _is_final(error: ApiError) -> bool:
    """Return whether an error also says that no earlier attempt was done."""
    return isinstance(error, Refused) and error.reason in _FINAL


def _means_done(call: Call[Any], error: ApiError) -> bool:
    return (
        call.already_done is not None
        and isinstance(error, Refused)
        and error.reason == call.already_done
    )


def _retry_after_s(call: Call[Any], error: ApiError) -> float | None:
    """Return when to try again; None if the server has refused the call."""
    if isinstance(error, NotServed):
        return error.retry_after_s
    if isinstance(error, NoReply):
        return _WAIT_S
    if isinstance(error, Refused) and call.has_request_id:
        is_failure = error.status >= requests.codes.server_error
        return _WAIT_S if is_failure or error.reason == Reason.NOT_TAKEN else None
    return None


class Calls:
    """Sends calls to one server, as one user if `token` is set."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        tries: int = 3,
        session: requests.Session | None = None,
    ) -> None:
        """`tries`: how often a call is sent that is harmless to repeat, if it is not served."""
        self.address = address.rstrip("/")
        self.token = token
        self.timeout_s = timeout_s
        self.tries = tries
        self.session = session or requests.Session()

    def call(self, call: Call[T], **params: str | int | File | None) -> T:
        """Send a call; return what the API promises for a success.

        Raises Refused for a refusal, NotServed if the server cannot serve it now, and NoReply.
        If the error's `outcome_unknown` is true, go on with its `request_id`.
        """
        given = {name: value for name, value in params.items() if value is not None}
        if call.selector:
            given[call.selector] = "1"
        if call.login and self.token is not None:
            given["token"] = self.token
        if call.has_request_id:
            given.setdefault("requestId", uuid.uuid4().hex)
        tries = self.tries if call.repeatable or call.has_request_id else 1
        try:
            return self._repeated(call, given, tries)
        except ApiError as error:
            if call.has_request_id:
                error.request_id = str(given["requestId"])
            raise

    def _repeated(self, call: Call[T], given: Mapping[str, Any], tries: int) -> T:
        """Send a call until it is served or refused, `tries` times at most."""
        is_unknown = False
        for left in reversed(range(tries)):
            try:
                return self._once(call, given)
            except ApiError as error:
                if is_unknown and _means_done(call, error):
                    return call.message.validate_python(None)
                is_unknown = error.outcome_unknown or (is_unknown and not _is_final(error))
                error.outcome_unknown = is_unknown
                wait_s = _retry_after_s(call, error)
                if wait_s is None or not left:
                    raise
            time.sleep(min(wait_s, _WAIT_S_MAX))
        raise AssertionError("unreachable: the last try returns or raises")

    def _once(self, call: Call[T], given: Mapping[str, Any]) -> T:
        try:
            return self._read(call, self._send(call, given))
        except (requests.ConnectionError, requests.Timeout) as error:
            raise NotReached(str(error)) from error
        except requests.RequestException as error:
            raise NoReply(str(error)) from error

    def _send(self, call: Call[T], given: Mapping[str, Any]) -> requests.Response:
        with ExitStack() as opened:
            fields, files = {}, {}
            for name, value in given.items():
                if name not in call.files:
                    fields[name] = str(value)
                elif isinstance(value, str | os.PathLike):
                    files[name] = opened.enter_context(Path(value).open("rb"))
                else:
                    value.seek(0)
                    files[name] = value
            return self.session.post(
                self.address + call.path, data=fields, files=files or None, timeout=self.timeout_s
            )

    def _read(self, call: Call[T], response: requests.Response) -> T:
        try:
            body = response.json()
            code = body["result"]
            if code == Result.OK.code:
                beside = [body[name] for name in call.beside]
                message = (body["message"], *beside) if beside else body["message"]
                return call.message.validate_python(message)
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise NoReply(f"no reply of this API ({response.status_code})") from error
        raise _error(code, response)


def _error(code: str, response: requests.Response) -> Refused:
    refusal, status = response.headers.get("X-Refusal"), response.status_code
    if status != requests.codes.service_unavailable:
        is_failure = status >= requests.codes.server_error
        return Refused(code, refusal=refusal, status=status, outcome_unknown=is_failure)
    after = response.headers.get("Retry-After", "")
    return NotServed(
        code,
        refusal=refusal,
        outcome_unknown=response.headers.get("X-Request-Outcome") == "unknown",
        retry_after_s=float(after) if after.isdecimal() else 1.0,
        retry_request_id=response.headers.get("X-Repeat-As"),
    )
