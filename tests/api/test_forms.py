"""Tests of the parser of request forms and of its limits."""

from io import BytesIO

import pytest
from pyramid.request import Request

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.forms import RequestLimits, read_form

LIMITS = RequestLimits(max_fields=3, query_allowed=False)
URLENCODED_CONTENT_TYPE = "application/x-www-form-urlencoded"


def request(
    body: bytes = b"", content_type: str = URLENCODED_CONTENT_TYPE, query: str = ""
) -> Request:
    new_request = Request.blank(f"/x?{query}" if query else "/x", method="POST", body=body)
    new_request.environ["CONTENT_TYPE"] = content_type
    return new_request


def test_urlencoded_body_is_parsed_to_its_fields() -> None:
    assert read_form(request("a=1&b=中&c=".encode()), LIMITS) == {"a": "1", "b": "中", "c": ""}


def test_request_without_a_body_is_an_empty_form() -> None:
    assert read_form(request(content_type=""), LIMITS) == {}


def test_query_string_is_parsed_if_allowed() -> None:
    limits = RequestLimits(max_fields=3, query_allowed=True)
    assert read_form(request(b"a=1", query="b=2"), limits) == {"b": "2", "a": "1"}


@pytest.mark.parametrize(
    ("invalid_request", "status", "reason"),
    [
        (request(b"a=1", query="b=2"), 400, ErrorReason.QUERY_NOT_ALLOWED),
        (request(b"a=1", content_type="application/json"), 415, ErrorReason.UNSUPPORTED_MEDIA_TYPE),
        (
            request(b"a=1", content_type=f"{URLENCODED_CONTENT_TYPE}; charset=gbk"),
            415,
            ErrorReason.UNSUPPORTED_MEDIA_TYPE,
        ),
        (request(b"a=%ff"), 400, ErrorReason.MALFORMED_FORM),
        (request(b"a=1&b=1&c=1&d=1"), 400, ErrorReason.TOO_MANY_FIELDS),
        (request(b"a=1&a=2"), 400, ErrorReason.DUPLICATE_PARAMETER),
        (request(b"x", content_type="multipart/form-data"), 400, ErrorReason.MALFORMED_FORM),
        (
            request(b"x", content_type=f"multipart/form-data; boundary={'b' * 71}"),
            400,
            ErrorReason.MALFORMED_FORM,
        ),
    ],
)
def test_invalid_request_is_rejected(
    invalid_request: Request, status: int, reason: ErrorReason
) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_form(invalid_request, LIMITS)
    assert (error.value.status, error.value.detail.reason) == (status, reason)


def test_chunked_body_without_a_content_type_is_415() -> None:
    chunked_request = request(b"a=1", content_type="")
    chunked_request.content_length = None
    chunked_request.environ["wsgi.input_terminated"] = True
    with pytest.raises(InvalidRequest) as error:
        read_form(chunked_request, LIMITS)
    assert error.value.status == 415


def multipart_request(body: bytes) -> tuple[Request, BytesIO]:
    """Return a request and the stream of its body."""
    new_request = request(body, "multipart/form-data; boundary=x")
    stream = new_request.environ["wsgi.input"] = BytesIO(body)
    return new_request, stream


PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"y" * 200_000])
def test_multipart_form_is_read_to_its_end(rest: bytes) -> None:
    valid_request, stream = multipart_request(PART + b"--x--" + rest)
    assert read_form(valid_request, LIMITS) == {"a": "1"}
    assert stream.read() == b""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PART * 200_000 + b"--x--", id="too many parts"),
        pytest.param(PART + b"--y--" * 200_000, id="no final boundary"),
        pytest.param(b"--x\r\n\r\n" + PART * 200_000, id="part without a name"),
        pytest.param(b"--x\r\n" + b"y: " * 200_000, id="long header"),
    ],
)
def test_malformed_multipart_form_is_read_to_its_end(body: bytes) -> None:
    invalid_request, stream = multipart_request(body)
    with pytest.raises(InvalidRequest) as error:
        read_form(invalid_request, LIMITS)
    assert error.value.status == 400
    assert stream.read() == b""
