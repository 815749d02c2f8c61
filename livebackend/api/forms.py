"""Strict form parsing: UTF-8, one value per name, limited size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import BinaryIO
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartParser, parse_options_header
from pyramid.request import Request

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest

_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_MAX_BOUNDARY_LENGTH = 70  # the limit of RFC 2046, section 5.1.1


@dataclass(frozen=True)
class Upload:
    """An uploaded file: its name as sent, its content, its size in bytes."""

    filename: str
    file: BinaryIO
    size: int


@dataclass(frozen=True)
class RequestLimits:
    """The limits of a request: body size, number of fields, query string."""

    max_body_bytes: int
    max_fields: int
    query_allowed: bool


Form = dict[str, str | Upload]


def read_form(request: Request, limits: RequestLimits) -> Form:
    """Return the parameters of the query string and the body.

    Raises InvalidRequest: 415 for a body that is not a form in UTF-8, 413 for more than
    `max_body_bytes`, 400 for a query string that is not allowed, a malformed form, too many fields,
    or a duplicate name.
    """
    if request.query_string and not limits.query_allowed:
        raise InvalidRequest(400, "query", ErrorReason.QUERY_NOT_ALLOWED)
    content_type, options = parse_options_header(request.environ.get("CONTENT_TYPE") or "")
    content_length = request.content_length or 0
    if content_length or content_type:
        _check_content_type(content_type, options, request.headers.get("Content-Encoding", ""))
    body = _read_body(request, content_length, limits)
    if body and not content_type:
        raise InvalidRequest(415, "body", ErrorReason.UNSUPPORTED_MEDIA_TYPE)
    try:
        # WSGI decodes the bytes of the query string as latin-1.
        fields = list(_urlencoded(request.environ["QUERY_STRING"].encode("latin-1"), limits))
        if content_type == _MULTIPART:
            parts = _multipart(body, options.get("boundary", ""), limits)
            fields += islice(parts, limits.max_fields + 1)
        else:
            fields += _urlencoded(body, limits)
    except (MultipartError, ValueError) as error:  # a UnicodeError is a ValueError
        raise InvalidRequest(400, "form", ErrorReason.MALFORMED_FORM) from error
    if len(fields) > limits.max_fields:
        raise InvalidRequest(400, "form", ErrorReason.TOO_MANY_FIELDS, max=limits.max_fields)
    form = dict(fields)
    if len(form) < len(fields):
        raise InvalidRequest(400, "parameter", ErrorReason.DUPLICATE_PARAMETER)
    return form


def _check_content_type(content_type: str, options: dict[str, str], content_encoding: str) -> None:
    charset = options.get("charset", "utf-8").lower()
    if (
        content_type not in (_URLENCODED, _MULTIPART)
        or charset not in ("utf-8", "utf8")
        or content_encoding.lower() not in ("", "identity")
    ):
        raise InvalidRequest(415, "body", ErrorReason.UNSUPPORTED_MEDIA_TYPE)


def _read_body(request: Request, content_length: int, limits: RequestLimits) -> bytes:
    if content_length <= limits.max_body_bytes:
        # One byte more than allowed is read, to detect a chunked body that is too large.
        body: bytes = request.body_file.read(limits.max_body_bytes + 1)
        if len(body) <= limits.max_body_bytes:
            return body
    raise InvalidRequest(413, "body", ErrorReason.TOO_LARGE, max=limits.max_body_bytes)


def _urlencoded(encoded: bytes, limits: RequestLimits) -> Iterable[tuple[str, str | Upload]]:
    if encoded.count(b"&") >= limits.max_fields:
        raise InvalidRequest(400, "form", ErrorReason.TOO_MANY_FIELDS, max=limits.max_fields)
    return parse_qsl(encoded.decode("utf-8"), keep_blank_values=True, errors="strict")


def _multipart(
    body: bytes, boundary: str, limits: RequestLimits
) -> Iterator[tuple[str, str | Upload]]:
    if len(boundary) > _MAX_BOUNDARY_LENGTH:
        raise InvalidRequest(400, "form", ErrorReason.MALFORMED_FORM)
    parser = MultipartParser(
        BytesIO(body),
        boundary,
        content_length=len(body),
        part_limit=limits.max_fields + 1,
        # All parts stay in memory, because the size of the body is already limited.
        spool_limit=limits.max_body_bytes,
    )
    for part in parser:
        if not part.name:  # RFC 7578, section 4.2, requires a name
            raise InvalidRequest(400, "form", ErrorReason.MALFORMED_FORM)
        if part.filename is not None:
            yield part.name, Upload(part.filename, part.file, part.size)
        elif part.charset.lower() in ("utf8", "utf-8"):
            yield part.name, part.raw.decode("utf-8")
        else:
            raise InvalidRequest(400, "form", ErrorReason.MALFORMED_FORM)
