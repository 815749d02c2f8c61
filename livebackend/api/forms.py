"""Strict form parsing: UTF-8, one value per name, a limited number of fields."""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote

from multipart import MultipartError, MultipartParser, MultipartPart
from pyramid.request import Request
from webob.request import DisconnectionError

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.request_body import MULTIPART, parse_content_type

_URLENCODED = "application/x-www-form-urlencoded"
_CHUNK_BYTES = 65_536
_MAX_BOUNDARY_LENGTH = 70  # the limit of RFC 2046, section 5.1.1
# A header line of a part. A Chinese file name of 5,000 characters has 45,000 bytes in `filename*`.
_MAX_PART_HEADER_BYTES = 65_536
# All headers of a form. Parsing a header takes up to 0.7 µs for each byte.
_MAX_HEADERS_LENGTH = 131_072
# The codecs of the charsets that the text of a part can have. US-ASCII is the default of older
# clients, such as Apache HttpMime.
_TEXT_CODECS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii"}
_DISPOSITION_PARAMETER = re.compile(
    r""";[ \t]*([\w-]+\*?)[ \t]*=[ \t]*("(?:\\.|[^\\"])*"|[^;"\s]*)""", re.ASCII
)
# RFC 5987, section 3.2.1: charset, language, and the percent-encoded text.
_EXTENDED_VALUE = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Upload:
    """An uploaded file: its name as sent (unsafe), its content, its size in bytes."""

    filename: str
    file: BinaryIO
    size: int


@dataclass(frozen=True)
class RequestLimits:
    """The limits of a form: number of fields, query string."""

    max_fields: int
    query_allowed: bool


Form = dict[str, str | Upload]


def read_form(request: Request, limits: RequestLimits) -> Form:
    """Return the parameters of the query string and the body.

    Raises InvalidRequest: 415 for a body that is not a form in UTF-8, 413 for a body over its limit
    (`LimitedBody`), 400 for a query string that is not allowed, a malformed form, too many fields,
    or a duplicate name.
    """
    environ = request.environ
    query = environ["QUERY_STRING"]
    if query and not limits.query_allowed:
        raise InvalidRequest(400, "query", ErrorReason.QUERY_NOT_ALLOWED)
    content_type, options = parse_content_type(environ.get("CONTENT_TYPE") or "")
    if request.content_length or content_type:
        _check_content_type(content_type, options, environ.get("HTTP_CONTENT_ENCODING", ""))
    # A multipart form is parsed while it is read, so that it is not in memory twice.
    body = _read_body(request) if content_type != MULTIPART else b""
    if body and not content_type:
        raise InvalidRequest(415, "body", ErrorReason.UNSUPPORTED_MEDIA_TYPE)
    try:
        # WSGI decodes the bytes of the query string as latin-1.
        fields = list(_urlencoded(query.encode("latin-1"), limits)) if query else []
        if content_type == MULTIPART:
            fields += _multipart_fields(request, options.get("boundary", ""), limits)
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


def _read_body(request: Request) -> bytes:
    """Return the body, which has at most its Content-Length.

    Raises DisconnectionError if the client has not sent all of it. `request.body_file` does the
    same, with a buffer that a short body does not need.
    """
    if not request.is_body_readable:
        return b""
    length = request.content_length
    body: bytes = request.body_file_raw.read(-1 if length is None else length)
    if length is not None and len(body) < length:
        raise DisconnectionError(f"the body has {len(body)} of {length} bytes")
    return body


def _check_content_type(content_type: str, options: dict[str, str], content_encoding: str) -> None:
    charset = options.get("charset", "utf-8").lower()
    if (
        content_type not in (_URLENCODED, MULTIPART)
        or charset not in ("utf-8", "utf8")
        or content_encoding.lower() not in ("", "identity")
    ):
        raise InvalidRequest(415, "body", ErrorReason.UNSUPPORTED_MEDIA_TYPE)


def _urlencoded(encoded: bytes, limits: RequestLimits) -> Iterable[tuple[str, str | Upload]]:
    if encoded.count(b"&") >= limits.max_fields:
        raise InvalidRequest(400, "form", ErrorReason.TOO_MANY_FIELDS, max=limits.max_fields)
    return parse_qsl(encoded.decode("utf-8"), keep_blank_values=True, errors="strict")


def _multipart_fields(
    request: Request, boundary: str, limits: RequestLimits
) -> list[tuple[str, str | Upload]]:
    try:
        return list(islice(_multipart(request, boundary, limits), limits.max_fields + 1))
    finally:
        # nginx can lose a response that arrives before it has sent the whole body.
        while request.body_file.read(_CHUNK_BYTES):
            pass


def _multipart(
    request: Request, boundary: str, limits: RequestLimits
) -> Iterator[tuple[str, str | Upload]]:
    if len(boundary) > _MAX_BOUNDARY_LENGTH:
        raise InvalidRequest(400, "form", ErrorReason.MALFORMED_FORM)
    parser = MultipartParser(
        request.body_file,
        boundary,
        content_length=-1 if request.content_length is None else request.content_length,
        part_limit=limits.max_fields + 1,
        # All parts stay in memory, because the size of the body is already limited.
        spool_limit=sys.maxsize,
        memory_limit=sys.maxsize,
        headersize_limit=_MAX_PART_HEADER_BYTES,
    )
    headers_length = 0
    for part in parser:
        headers_length += sum(len(value) for _, value in part.headerlist)
        # RFC 7578, section 4.2, requires a name.
        if not part.name or headers_length > _MAX_HEADERS_LENGTH:
            raise InvalidRequest(400, "form", ErrorReason.MALFORMED_FORM)
        filename = _filename(part)
        if filename is not None:
            yield part.name, Upload(filename, part.file, part.size)
        elif part.charset.lower() in _TEXT_CODECS:
            yield part.name, part.raw.decode(_TEXT_CODECS[part.charset.lower()])
        else:
            raise InvalidRequest(400, "form", ErrorReason.MALFORMED_FORM)


def _filename(part: MultipartPart) -> str | None:
    """Return the file name of a part; None for a text field.

    RFC 7578, section 4.2, forbids the parameter `filename*`, but some clients send only this one.
    Raises ValueError if it is malformed.
    """
    if part.filename is not None:
        return str(part.filename)
    parameters = _DISPOSITION_PARAMETER.findall(part.disposition)
    extended_values = [value for name, value in parameters if name.lower() == "filename*"]
    if not extended_values:
        return None
    match = _EXTENDED_VALUE.fullmatch(extended_values[0].strip('"'))
    if not match:
        raise ValueError("the parameter filename* is malformed")
    return unquote(match[2], encoding=match[1], errors="strict")
