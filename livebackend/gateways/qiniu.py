"""Qiniu's own HTTP interface: how a call is signed, made within its time, and judged."""

import base64
import hmac
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
from requests import PreparedRequest
from requests.auth import AuthBase

from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.http_client import Answer, Caller, CallFailed

log = logging.getLogger(__name__)

# What Qiniu calls a request in its own log, and wants to be told by whoever asks about it.
_REQUEST_ID = re.compile("[ -~]{1,64}")


class QiniuFailed(Exception):
    """Qiniu refused, was not reached, or did not answer in time.

    `error` is its own word for it, or "unreachable", "timeout" or "too large"; `status` what it
    answered with, if it did. `outcome_unknown`: it may have done what it was asked for all the
    same.
    """

    def __init__(
        self,
        error: str,
        message: str,
        *,
        status: int | None = None,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(f"{error}: {message}")
        self.error = error
        self.status = status
        self.outcome_unknown = outcome_unknown


class QiniuAuth(AuthBase):
    """Signs a request as Qiniu wants it, and knows a request that Qiniu has signed.

    Source: "Qiniu" authorization, as documented for Pili and SMS: HMAC-SHA1 over the request's
    first line, host, content type, `X-Qiniu-*` headers and body.
    """

    def __init__(self, access_key: str, secret_key: str) -> None:
        self._access_key = access_key
        self._secret_key = secret_key.encode()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        address, body = urlsplit(request.url or ""), request.body or b""
        request.headers["Authorization"] = self.authorization(
            request.method or "",
            request.path_url,
            host=request.headers.get("Host") or address.netloc,
            headers=request.headers,
            body=body if isinstance(body, bytes) else str(body).encode(),
        )
        return request

    def authorization(
        self, method: str, target: str, *, host: str, headers: Mapping[str, str], body: bytes
    ) -> str:
        """The header that a request must bear; `target` is its path and query, as they are sent."""
        data = _signed_data(method, target, host=host, headers=headers, body=body)
        return f"Qiniu {self.token(data)}"

    def is_genuine(
        self, method: str, target: str, *, host: str, headers: Mapping[str, str], body: bytes
    ) -> bool:
        """Whether a request bears our account's signature; `host` is its public one."""
        right = self.authorization(method, target, host=host, headers=headers, body=body)
        given = {name.title(): value for name, value in headers.items()}.get("Authorization", "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())

    def token(self, data: bytes) -> str:
        """Our account's signature of any data, with our account's name."""
        return f"{self._access_key}:{signature(self._secret_key, data)}"


class QiniuCallbacks:
    """Knows the calls that Qiniu makes of us; without keys of ours, none is Qiniu's.

    `url` is our public address: Qiniu signs for the host that it was told.
    """

    def __init__(self, url: str, *, access_key: str, secret_key: str) -> None:
        address = urlsplit(url)
        self._host, self._prefix = address.netloc, address.path.rstrip("/")
        self._auth = QiniuAuth(access_key, secret_key) if access_key and secret_key else None

    def is_genuine(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes
    ) -> bool:
        """Whether a request is Qiniu's; `target` is its path here, and its query."""
        return self._auth is not None and self._auth.is_genuine(
            method, self._prefix + target, host=self._host, headers=headers, body=body
        )


def signature(key: bytes, data: bytes) -> str:
    """HMAC-SHA1, as text that fits into a URL; its padding stays."""
    return base64.urlsafe_b64encode(hmac.digest(key, data, "sha1")).decode()


def _signed_data(
    method: str, target: str, *, host: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    """What of a request is signed."""
    named = {name.title(): value for name, value in headers.items()}
    content_type = named.get("Content-Type")
    lines = [f"{method} {target}", f"Host: {host}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    own = sorted(name for name in named if name.startswith("X-Qiniu-") and name != "X-Qiniu-")
    lines += [f"{name}: {named[name]}" for name in own]
    data = "\n".join(lines).encode() + b"\n\n"
    return data if content_type in (None, "application/octet-stream") else data + body


class Qiniu:
    """Calls Qiniu. A call takes 4 s at most, and nothing is ever sent twice."""

    def __init__(self, url: str, *, access_key: str, secret_key: str) -> None:
        self._caller = Caller(url, auth=QiniuAuth(access_key, secret_key))

    def call(
        self, method: str, path: str, body: Any = None, *, deadline: Deadline | None = None
    ) -> Any:
        """The JSON of the answer, None for an empty one. Raises QiniuFailed."""
        try:
            answer = self._caller.call(
                method,
                path,
                body=None if body is None else orjson.dumps(body),
                headers={} if body is None else {"Content-Type": "application/json"},
                deadline=deadline,
            )
        except CallFailed as error:
            raise QiniuFailed(
                error.word, error.message, outcome_unknown=error.outcome_unknown
            ) from error
        found = _REQUEST_ID.fullmatch(answer.headers.get("X-Reqid", ""))
        log.info("%s %s: %s, X-Reqid %s", method, path, answer.status, found[0] if found else "-")
        return _judged(answer)


def _judged(answer: Answer) -> Any:
    try:
        said = orjson.loads(answer.content) if answer.content else None
    except orjson.JSONDecodeError:
        raise QiniuFailed(
            str(answer.status), "the answer is no JSON", status=answer.status, outcome_unknown=True
        ) from None
    if answer.status == requests.codes.ok:
        return said
    why = said if isinstance(said, dict) else {}
    error, message = why.get("error", answer.status), why.get("message", "")
    raise QiniuFailed(str(error)[:100], str(message)[:200], status=answer.status)
