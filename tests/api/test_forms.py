"""A form is read strictly, whatever a request holds."""

import pytest
from pyramid.request import Request

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import NotACall
from livebackend.api.forms import Bounds, read_form

BOUNDS = Bounds(body_bytes_max=100, fields_max=3, query_allowed=False)
URLENCODED = "application/x-www-form-urlencoded"


def request(body: bytes = b"", content_type: str = URLENCODED, query: str = "") -> Request:
    made = Request.blank(f"/x?{query}" if query else "/x", method="POST", body=body)
    made.environ["CONTENT_TYPE"] = content_type
    return made


def test_a_form_is_its_fields() -> None:
    assert read_form(request("a=1&b=中&c=".encode()), BOUNDS) == {"a": "1", "b": "中", "c": ""}


def test_no_body_is_an_empty_form() -> None:
    assert read_form(request(content_type=""), BOUNDS) == {}


def test_a_query_is_read_where_it_is_allowed() -> None:
    allowed = Bounds(body_bytes_max=100, fields_max=3, query_allowed=True)
    assert read_form(request(b"a=1", query="b=2"), allowed) == {"b": "2", "a": "1"}


@pytest.mark.parametrize(
    ("refused", "status", "reason"),
    [
        (request(b"a=1", query="b=2"), 400, Reason.QUERY_REFUSED),
        (request(b"a=1", content_type="application/json"), 415, Reason.WRONG_TYPE),
        (request(b"a=1", content_type=f"{URLENCODED}; charset=gbk"), 415, Reason.WRONG_TYPE),
        (request(b"a=%ff"), 400, Reason.WRONG_FORM),
        (request(b"a=1&b=1&c=1&d=1"), 400, Reason.TOO_MANY_FIELDS),
        (request(b"a=1&a=2"), 400, Reason.TWICE),
        (request(b"x" * 101), 413, Reason.TOO_LARGE),
        (request(b"x", content_type="multipart/form-data"), 400, Reason.WRONG_FORM),
        (
            request(b"x", content_type=f"multipart/form-data; boundary={'b' * 71}"),
            400,
            Reason.WRONG_FORM,
        ),
    ],
)
def test_anything_else_is_refused(refused: Request, status: int, reason: Reason) -> None:
    with pytest.raises(NotACall) as caught:
        read_form(refused, BOUNDS)
    assert (caught.value.status, caught.value.refusal.reason) == (status, reason)


def test_a_body_in_chunks_needs_a_content_type() -> None:
    chunked = request(b"a=1", content_type="")
    chunked.content_length = None
    chunked.environ["wsgi.input_terminated"] = True
    with pytest.raises(NotACall) as caught:
        read_form(chunked, BOUNDS)
    assert caught.value.status == 415
