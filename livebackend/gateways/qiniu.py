"""Qiniu's own HTTP interface: how a call is signed, made within its time, and judged."""

import base64
import hmac
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
from requests import PreparedRequest, Response
from requests.auth import AuthBase

# All of one call, whatever the other side does; and of it, to be connected, and for each silence.
_TOTAL_S = 4.0
_CONNECT_S, _SILENCE_S = 1.0, 2.5
# Calls that others keep waiting hold a thread each until their silence ends; more are refused.
_AT_ONCE = 32


class QiniuFailed(Exception):
    """Qiniu refused, was not reached, or did not answer in time.

    `error` is its own word for it, or "unreachable" or "timeout". `outcome_unknown`: it may have
    done what it was asked for all the same.
    """

    def __init__(self, error: str, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(f"{error}: {message}")
        self.error = error
        self.outcome_unknown = outcome_unknown


class QiniuAuth(AuthBase):
    """Signs a request as Qiniu wants it.

    Source: "Qiniu" authorization, as documented for Pili and SMS: HMAC-SHA1 over the request's
    first line, host, content type, `X-Qiniu-*` headers and body.
    """

    def __init__(self, access_key: str, secret_key: str) -> None:
        self._access_key = access_key
        self._secret_key = secret_key.encode()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        signature = base64.urlsafe_b64encode(
            hmac.digest(self._secret_key, signed_data(request), "sha1")
        )
        request.headers["Authorization"] = f"Qiniu {self._access_key}:{signature.decode()}"
        return request


def signed_data(request: PreparedRequest) -> bytes:
    """What of a request is signed."""
    address = urlsplit(request.url or "")
    content_type = request.headers.get("Content-Type")
    lines = [
        f"{request.method} {request.path_url}",
        f"Host: {request.headers.get('Host', address.netloc)}",
    ]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    own = {name.title(): value for name, value in request.headers.items()}
    lines += [f"{name}: {own[name]}" for name in sorted(own) if name.startswith("X-Qiniu-")]
    data = "\n".join(lines).encode() + b"\n\n"
    if request.body and content_type not in (None, "application/octet-stream"):
        data += request.body if isinstance(request.body, bytes) else str(request.body).encode()
    return data


class Qiniu:
    """Calls Qiniu, and waits no longer than 4 s, even for an answer that comes byte by byte."""

    def __init__(self, url: str, *, access_key: str, secret_key: str) -> None:
        self._url = url.rstrip("/")
        self._auth = QiniuAuth(access_key, secret_key)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="qiniu")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of the answer, None for an empty one. Raises QiniuFailed."""
        waiting = self._threads.submit(self._ask, method, path, body)
        try:
            response = waiting.result(_TOTAL_S)
        except TookTooLong:
            waiting.cancel()
            raise _timeout(f"no answer within {_TOTAL_S} s") from None
        except (requests.ConnectTimeout, requests.exceptions.SSLError) as error:
            raise QiniuFailed("unreachable", str(error)) from error
        except requests.Timeout as error:
            raise _timeout(str(error)) from error
        except requests.RequestException as error:
            # Cut off half-way: nobody knows what was read of the request.
            raise QiniuFailed("unreachable", str(error), outcome_unknown=True) from error
        return _judged(response)

    def _ask(self, method: str, path: str, body: Any) -> Response:
        headers = {} if body is None else {"Content-Type": "application/json"}
        return requests.request(
            method,
            self._url + path,
            data=None if body is None else orjson.dumps(body),
            headers=headers,
            auth=self._auth,
            timeout=(_CONNECT_S, _SILENCE_S),
            # A signature holds for one host alone.
            allow_redirects=False,
        )


def _timeout(message: str) -> QiniuFailed:
    return QiniuFailed("timeout", message, outcome_unknown=True)


def _judged(response: Response) -> Any:
    try:
        answer = orjson.loads(response.content) if response.content else None
    except orjson.JSONDecodeError:
        raise QiniuFailed(str(response.status_code), "the answer is no JSON") from None
    if response.status_code == requests.codes.ok:
        return answer
    said = answer if isinstance(answer, dict) else {}
    error, message = said.get("error", response.status_code), said.get("message", "")
    raise QiniuFailed(str(error)[:100], str(message)[:200])
