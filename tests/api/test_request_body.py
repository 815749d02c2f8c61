"""Tests of the limit of request bodies: by path, media type and transfer encoding."""

from io import BytesIO
from typing import Any

import pytest

from livebackend.api.errors import InvalidRequest
from livebackend.api.request import Request
from livebackend.api.request_body import BodyLimits, LimitedBody, limit_body_tween_factory
from tests.support.api import App

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
PATHS = [
    *("/register", "/log", "/room", "/list", "/friend", "/golden", "/payments", "/pili/callback"),
    *("/nginx/hook", "/pictures/" + "0" * 32 + "/a.png", "/docs", "/static/0/a", "/", "/unknown"),
    *("/readyz", "/upload/", "/Upload"),
]
CASES = [
    *[(path, content_type, 65_536) for path in PATHS for content_type in (FORM, MULTIPART)],
    *[
        ("/upload", content_type, 65_536)
        for content_type in (FORM, "application/json", "text/plain", "", "multipart/mixed")
    ],
    ("/upload", MULTIPART, 6_291_456),
    ("/upload", "Multipart/Form-Data", 6_291_456),
]


class ReadCounter(BytesIO):
    """A body that counts the bytes that were read."""

    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        return content


def send(
    app: App, path: str, content_type: str, body: ReadCounter, *, length: int | None
) -> tuple[str, dict[str, str]]:
    """Send a POST, chunked if there is no `length`; return status and headers."""
    request = Request.blank(path, method="POST")
    request.environ |= {
        "CONTENT_TYPE": content_type,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.input": body,
        "wsgi.input_terminated": True,
    }
    request.content_length = length
    response = request.send(app)
    return response.status[:3], dict(response.headers)


@pytest.mark.parametrize(("path", "content_type", "max_bytes"), CASES)
def test_body_over_its_limit_is_refused_before_it_is_read(
    path: str, content_type: str, max_bytes: int, app: App
) -> None:
    body = ReadCounter(b"x" * (max_bytes + 1))
    status, headers = send(app, path, content_type, body, length=max_bytes + 1)
    assert (status, headers["X-Error"]) == ("413", f"body; reason=too_large; max={max_bytes}")
    assert body.bytes_read == 0


@pytest.mark.parametrize(("path", "content_type", "max_bytes"), CASES)
def test_no_path_reads_more_than_one_byte_over_the_limit_of_a_chunked_body(
    path: str, content_type: str, max_bytes: int, app: App
) -> None:
    body = ReadCounter(b"x" * (max_bytes + 1_000_000))
    status, _ = send(app, path, content_type, body, length=None)
    assert status in {"400", "403", "404", "405", "413", "415"}
    assert body.bytes_read <= max_bytes + 1


@pytest.mark.parametrize(
    "attribute", ["body", "json_body", "text", "POST", "body_file_seekable", "copy"]
)
def test_every_way_to_read_a_body_stops_at_the_limit(attribute: str) -> None:
    body = ReadCounter(b'"' + b"x" * 1_000_000)

    def handler(request: Request) -> Any:
        value = getattr(request, attribute)
        return value() if callable(value) else value

    class Registry:
        body_limits = BodyLimits(max_bytes=100, max_upload_bytes=1000)

    request = Request.blank("/x", method="POST", content_type=FORM)
    request.environ |= {"wsgi.input": body, "wsgi.input_terminated": True}
    request.content_length = None
    with pytest.raises(InvalidRequest) as error:
        limit_body_tween_factory(handler, Registry)(request)
    assert error.value.status == 413
    assert body.bytes_read == 101


@pytest.mark.parametrize("sizes", [[-1], [100], [101], [1] * 100, [60, 40], [60, -1]])
def test_body_of_the_maximum_size_is_read_completely(sizes: list[int]) -> None:
    body = LimitedBody(BytesIO(b"x" * 100), 100)
    assert b"".join(body.read(size) for size in sizes) == b"x" * 100
    assert body.read() == b""
