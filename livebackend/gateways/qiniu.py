"""Client of Qiniu's HTTP API, and verification of Qiniu's callbacks."""

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
from livebackend.gateways.http_client import ProviderCallFailed, ProviderClient, ProviderResponse

log = logging.getLogger(__name__)

# Valid values of the header X-Reqid, which is logged because Qiniu's support asks for it.
_REQUEST_ID = re.compile("[ -~]{1,64}")


class QiniuFailed(Exception):
    """Qiniu rejected a request, was unreachable or timed out.

    `error` is Qiniu's error code, or "unreachable", "timeout" or "too large". `status` is the HTTP
    status of the response, if any. With `outcome_unknown`, Qiniu may have processed the request.
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
    """Signs requests to Qiniu and verifies requests from Qiniu.

    The signature is the HMAC-SHA1 of the request line, host, content type, `X-Qiniu-*` headers and
    body. Source: Qiniu Pili and SMS, the authorization scheme "Qiniu".
    """

    def __init__(self, access_key: str, secret_key: str) -> None:
        self._access_key = access_key
        self._secret_key = secret_key.encode()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        url_parts, body = urlsplit(request.url or ""), request.body or b""
        request.headers["Authorization"] = self.authorization(
            request.method or "",
            request.path_url,
            host=request.headers.get("Host") or url_parts.netloc,
            headers=request.headers,
            body=body if isinstance(body, bytes) else str(body).encode(),
        )
        return request

    def authorization(
        self, method: str, target: str, *, host: str, headers: Mapping[str, str], body: bytes
    ) -> str:
        """Return the `Authorization` header; `target` is the path and query as sent."""
        data = _signed_data(method, target, host=host, headers=headers, body=body)
        return f"Qiniu {self.token(data)}"

    def has_valid_signature(
        self, method: str, target: str, *, host: str, headers: Mapping[str, str], body: bytes
    ) -> bool:
        """Return whether a request has a valid signature; `host` is the public host."""
        expected = self.authorization(method, target, host=host, headers=headers, body=body)
        actual_header = {name.title(): value for name, value in headers.items()}.get(
            "Authorization", ""
        )
        return hmac.compare_digest(actual_header.encode("utf-8", "replace"), expected.encode())

    def token(self, data: bytes) -> str:
        """Return Qiniu's token for the data: the access key and the data's signature."""
        return f"{self._access_key}:{signature(self._secret_key, data)}"


class QiniuCallbackVerifier:
    """Verifies Qiniu's callbacks; rejects every callback if no keys are set.

    `url` is the server's public URL, whose host and path are part of the data that Qiniu signs.
    """

    def __init__(self, url: str, *, access_key: str, secret_key: str) -> None:
        url_parts = urlsplit(url)
        self._host, self._prefix = url_parts.netloc, url_parts.path.rstrip("/")
        self._auth = QiniuAuth(access_key, secret_key) if access_key and secret_key else None

    def has_valid_signature(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes
    ) -> bool:
        """Return whether Qiniu signed a request.

        `target` is the request's path and query after the path of the public URL.
        """
        return self._auth is not None and self._auth.has_valid_signature(
            method, self._prefix + target, host=self._host, headers=headers, body=body
        )


def signature(key: bytes, data: bytes) -> str:
    """Return the HMAC-SHA1 of the data, in URL-safe base64 with padding."""
    return base64.urlsafe_b64encode(hmac.digest(key, data, "sha1")).decode()


def _signed_data(
    method: str, target: str, *, host: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    """Return the part of a request that the signature covers."""
    headers_by_name = {name.title(): value for name, value in headers.items()}
    content_type = headers_by_name.get("Content-Type")
    lines = [f"{method} {target}", f"Host: {host}"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    qiniu_header_names = sorted(
        name for name in headers_by_name if name.startswith("X-Qiniu-") and name != "X-Qiniu-"
    )
    lines += [f"{name}: {headers_by_name[name]}" for name in qiniu_header_names]
    data = "\n".join(lines).encode() + b"\n\n"
    return data if content_type in (None, "application/octet-stream") else data + body


class QiniuClient:
    """Client of Qiniu's JSON API. A call takes at most 4 s and is never retried."""

    def __init__(self, url: str, *, access_key: str, secret_key: str) -> None:
        self._client = ProviderClient(url, auth=QiniuAuth(access_key, secret_key))

    def call(
        self, method: str, path: str, body: Any = None, *, deadline: Deadline | None = None
    ) -> Any:
        """Send a request; return the response's JSON, or None for an empty body.

        Raises QiniuFailed.
        """
        try:
            response = self._client.call(
                method,
                path,
                body=None if body is None else orjson.dumps(body),
                headers={} if body is None else {"Content-Type": "application/json"},
                deadline=deadline,
            )
        except ProviderCallFailed as error:
            raise QiniuFailed(
                error.kind, error.message, outcome_unknown=error.outcome_unknown
            ) from error
        match = _REQUEST_ID.fullmatch(response.headers.get("X-Reqid", ""))
        request_id = match[0] if match else "-"
        log.info(
            "Qiniu: %s %s: HTTP status %s, X-Reqid %s", method, path, response.status, request_id
        )
        return _parse(response)


def _parse(response: ProviderResponse) -> Any:
    try:
        content = orjson.loads(response.content) if response.content else None
    except orjson.JSONDecodeError:
        raise QiniuFailed(
            str(response.status),
            "Qiniu's response is not JSON",
            status=response.status,
            outcome_unknown=True,
        ) from None
    if response.status == requests.codes.ok:
        return content
    fields = content if isinstance(content, dict) else {}
    error, message = fields.get("error", response.status), fields.get("message", "")
    raise QiniuFailed(str(error)[:100], str(message)[:200], status=response.status)
