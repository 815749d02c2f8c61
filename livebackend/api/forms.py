"""Strict form parsing: UTF-8, one value per name, limited size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartParser, parse_options_header
from pyramid.request import Request

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall

_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_BOUNDARY_MAX = 70  # RFC 2046, section 5.1.1


@dataclass(frozen=True)
class Upload:
    """An uploaded file: its name as sent, its content, its size in bytes."""

    filename: str
    file: BinaryIO
    size: int


@dataclass(frozen=True)
class Bounds:
    """The limits of a request: body size, number of fields, query string."""

    body_bytes_max: int
    fields_max: int
    query_allowed: bool


Form = dict[str, str | Upload]


def read_form(request: Request, bounds: Bounds) -> Form:
    """Return the parameters of the query string and the body.

    Raises NotACall: 415 for a body that is not a form in UTF-8, 413 for more than `body_bytes_max`,
    400 for a query string that is not allowed, a malformed form, too many fields, or a duplicate
    name.
    """
    if request.query_string and not bounds.query_allowed:
        raise NotACall(400, "query", Reason.QUERY_REFUSED)
    content_type, options = parse_options_header(request.environ.get("CONTENT_TYPE") or "")
    size = request.content_length or 0
    if size or content_type:
        _check_type(content_type, options, request.headers.get("Content-Encoding", ""))
    body = _body(request, size, bounds)
    if body and not content_type:
        raise NotACall(415, "body", Reason.WRONG_TYPE)
    try:
        # WSGI decodes the bytes of the query string as latin-1.
        fields = list(_urlencoded(request.environ["QUERY_STRING"].encode("latin-1"), bounds))
        if content_type == _MULTIPART:
            fields += _multipart(body, options.get("boundary", ""), bounds)
        else:
            fields += _urlencoded(body, bounds)
    except (MultipartError, ValueError) as error:  # a UnicodeError is a ValueError
        raise NotACall(400, "form", Reason.WRONG_FORM) from error
    if len(fields) > bounds.fields_max:
        raise NotACall(400, "form", Reason.TOO_MANY_FIELDS)
    form = dict(fields)
    if len(form) < len(fields):
        raise NotACall(400, "parameter", Reason.TWICE)
    return form


def _check_type(content_type: str, options: dict[str, str], encoding: str) -> None:
    charset = options.get("charset", "utf-8").lower()
    if (
        content_type not in (_URLENCODED, _MULTIPART)
        or charset not in ("utf-8", "utf8")
        or encoding.lower() not in ("", "identity")
    ):
        raise NotACall(415, "body", Reason.WRONG_TYPE)


def _body(request: Request, size: int, bounds: Bounds) -> bytes:
    if size <= bounds.body_bytes_max:
        # One byte more than allowed, because a chunked body has no declared size.
        body: bytes = request.body_file.read(bounds.body_bytes_max + 1)
        if len(body) <= bounds.body_bytes_max:
            return body
    raise NotACall(413, "body", Reason.TOO_LARGE)


def _urlencoded(text: bytes, bounds: Bounds) -> Iterable[tuple[str, str | Upload]]:
    if text.count(b"&") >= bounds.fields_max:
        raise NotACall(400, "form", Reason.TOO_MANY_FIELDS)
    return parse_qsl(text.decode("utf-8"), keep_blank_values=True, errors="strict")


def _multipart(body: bytes, boundary: str, bounds: Bounds) -> Iterator[tuple[str, str | Upload]]:
    if len(boundary) > _BOUNDARY_MAX:
        raise NotACall(400, "form", Reason.WRONG_FORM)
    parser = MultipartParser(
        BytesIO(body),
        boundary,
        content_length=len(body),
        part_limit=bounds.fields_max,
        # Everything stays in memory: the body size is already limited.
        spool_limit=bounds.body_bytes_max,
    )
    for part in parser:
        if not part.name:  # RFC 7578, section 4.2
            raise NotACall(400, "form", Reason.WRONG_FORM)
        if part.filename is not None:
            yield part.name, Upload(part.filename, part.file, part.size)
        elif part.charset.lower() in ("utf8", "utf-8"):
            yield part.name, part.raw.decode("utf-8")
        else:
            raise NotACall(400, "form", Reason.WRONG_FORM)
