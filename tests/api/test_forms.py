"""Tests of the parser of request forms and of its limits."""

from io import BytesIO

import pytest
from pyramid.request import Request

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.forms import RequestLimits, Upload, read_form

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


def read_part(disposition: bytes, *headers: bytes, content: bytes = b"1") -> str | Upload:
    """Return the only field of a form whose part has these headers."""
    lines = [b"--x", b"Content-Disposition: form-data; " + disposition, *headers, b"", content]
    valid_request, _ = multipart_request(b"\r\n".join([*lines, b"--x--"]))
    (value,) = read_form(valid_request, LIMITS).values()
    return value


def assert_malformed(body: bytes) -> None:
    invalid_request, stream = multipart_request(body)
    with pytest.raises(InvalidRequest) as error:
        read_form(invalid_request, LIMITS)
    assert error.value.detail.reason == ErrorReason.MALFORMED_FORM
    assert stream.read() == b""


@pytest.mark.parametrize("charset", [b"US-ASCII", b"ascii", b'"us-ascii"'])
def test_text_part_in_ascii_is_accepted(charset: bytes) -> None:
    content_type = b"Content-Type: text/plain; charset=" + charset
    assert read_part(b'name="a"', content_type) == "1"


@pytest.mark.parametrize("charset", [b"US-ASCII", b"gbk", b"bogus", b"utf-16", b"rot13"])
def test_text_part_with_bytes_outside_its_charset_or_an_unknown_charset_is_400(
    charset: bytes,
) -> None:
    content_type = b"Content-Type: text/plain; charset=" + charset
    assert_malformed(
        PART.replace(b"\r\n\r\n1", b"\r\n" + content_type + b"\r\n\r\n\xc3") + b"--x--"
    )


@pytest.mark.parametrize(
    ("parameter", "filename"),
    [
        (b"filename*=UTF-8''%e5%a4%b4%E5%83%8F.png", "头像.png"),
        (b"FILENAME*=utf-8'zh-CN'a.png", "a.png"),
        (b"filename*=\"utf-8''a%20b.png\"", "a b.png"),
        (b"filename* = iso-8859-1''%e4.png", "ä.png"),
        (b"filename*=utf-8''%00%2e%2e/a;b", "\0../a"),
        (b"filename*=utf-8''", ""),
        (b"filename=\"plain.png\"; filename*=utf-8''other.png", "plain.png"),
    ],
)
def test_part_with_an_extended_file_name_is_a_file(parameter: bytes, filename: str) -> None:
    upload = read_part(b'name="a"; ' + parameter, content=b"\xff")
    assert isinstance(upload, Upload)
    assert (upload.filename, upload.file.read(), upload.size) == (filename, b"\xff", 1)


@pytest.mark.parametrize(
    "value",
    [b"a.png", b"gbk''a.png", b"utf-8''%ff", b"utf-8'a.png", b"", b"''a.png", b"utf-8''\xc3"],
)
def test_part_with_a_malformed_extended_file_name_is_400(value: bytes) -> None:
    assert_malformed(PART.replace(b'"a"', b'"a"; filename*=' + value) + b"--x--")


def test_quoted_field_name_that_contains_an_extended_file_name_is_a_text_field() -> None:
    assert read_part(b"name=\"a; filename*=utf-8''b\"") == "1"


@pytest.mark.parametrize(
    "parameter",
    [
        pytest.param(b'filename="' + b"n" * 5000 + b'.png"', id="ASCII"),
        pytest.param(b'filename="' + "长".encode() * 5000 + b'.png"', id="UTF-8"),
        pytest.param(b"filename*=utf-8''" + b"%E9%95%BF" * 5000 + b".png", id="extended"),
    ],
)
def test_file_name_of_5000_characters_is_accepted(parameter: bytes) -> None:
    upload = read_part(b'name="a"; ' + parameter)
    assert isinstance(upload, Upload)
    assert (len(upload.filename), upload.filename[-4:]) == (5004, ".png")


def test_part_with_a_header_over_64_kib_is_400() -> None:
    assert_malformed(PART.replace(b'"a"', b'"a"; filename="' + b"n" * 66_000 + b'"') + b"--x--")


def test_form_with_headers_over_128_kib_is_400() -> None:
    part = PART.replace(b'"a"', b'"%d"; filename="' + b"n" * 60_000 + b'"')
    assert_malformed(part % 1 + part % 2 + part % 3 + b"--x--")
