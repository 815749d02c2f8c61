"""What arrives at the socket: odd requests, and odd forms in sound ones."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

import pytest

from tests.support.api import Person
from tests.support.database_state import DatabaseState
from tests.support.raw_http import FORM, Call, Heard
from tests.support.servers import Server

pytestmark = pytest.mark.processes

# Would ask Ben, if it came so far.
ADD = "token=TOKEN&userId=13800000002&add=1"
MULTIPART = "multipart/form-data; boundary=x"
LARGE = "y" * 20_000


def parts(*parts: str) -> str:
    return "".join(f"--x\r\n{part}\r\n" for part in parts) + "--x--\r\n"


def part(name: str, value: str, *headers: str) -> str:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    return "\r\n".join([disposition, *headers, "", value])


ADD_IN_PARTS = [part("token", "TOKEN"), part("userId", "13800000002"), part("add", "1")]


def case(name: str, status: int, call: Call) -> object:
    return pytest.param(call, status, id=name)


def say(server: Server, call: Call, person: Person) -> Heard:
    """Says it with the person's token."""
    filled = replace(
        call,
        path=call.path.replace("TOKEN", person.token),
        body=str(call.body).replace("TOKEN", person.token),
    )
    return Heard.to(server, filled.on_the_wire())


@contextmanager
def nothing_happens(
    server: Server, database_state: DatabaseState, person: Person
) -> Iterator[None]:
    """Nothing changes inside, no message goes out, and the next good call works."""
    messages = server.log.read_text().count("code for")
    with database_state.unchanged():
        yield
    assert server.log.read_text().count("code for") == messages
    assert say(server, Call("/list", "token=TOKEN&friendlist=1"), person).json["result"] == "0000"


@pytest.mark.parametrize(
    ("call", "status"),
    [
        *[
            case(f"by {method}", 405, Call(f"/friend?{ADD}", method=method))
            for method in ("GET", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "NONSENSE")
        ],
        case(
            "json",
            415,
            Call(body=json.dumps({"token": "TOKEN", "add": "1"}), content_type="application/json"),
        ),
        case("plain text", 415, Call(body=ADD, content_type="text/plain")),
        case("no type", 415, Call(body=ADD, content_type="")),
        *[
            case(f"in {charset}", 415, Call(body=ADD, content_type=f"{FORM}; charset={charset}"))
            for charset in ("gbk", "utf-16", "bogus")
        ],
        case("gzipped", 415, Call(body=ADD, headers=("Content-Encoding: gzip",))),
        case("a query", 400, Call("/friend?x=1", ADD)),
        case("a query that is not utf-8", 400, Call("/friend?x=%ff", ADD)),
        case("a path that is not utf-8", 400, Call("/%ff", ADD)),
        case("a slash after the path", 404, Call("/friend/", ADD)),
        case("a slash in the path", 404, Call("/friend//", ADD)),
        case("the path in capitals", 404, Call("/FRIEND", ADD)),
        case("no form", 404, Call()),
        case("no form and no type", 404, Call(content_type="")),
        case("no length, so no form", 404, Call(body=ADD, length="")),
        case("add and delete", 400, Call(body=ADD + "&delete=1")),
        case("delete and add", 400, Call(body="delete=1&" + ADD)),
        case("add, but not add", 400, Call(body=ADD + "&add=0")),
        case("add twice", 400, Call(body=ADD + "&add=1")),
        case("two tokens", 400, Call(body=ADD + "&token=x")),
        case("live and leave", 400, Call("/room", "token=TOKEN&live=1&leave=1")),
        case(
            "refill and give",
            400,
            Call("/golden", "token=TOKEN&refill=1&send_gift=1&money=10"),
        ),
        case("both lists", 400, Call("/list", "token=TOKEN&friendlist=1&messagelist=1")),
        case(
            "register and verify",
            400,
            Call("/register", "register=1&userId=13800000003&password=harbour-42&code_v=1234"),
        ),
        case("the selector of another path", 404, Call("/room", "token=TOKEN&friendlist=1")),
        case("a body of 64 kB and one byte", 413, Call(body=f"{'x' * 65_537}")),
        case("a password of 1 MB", 413, Call("/log", f"userId=13800000001&password={'x' * 10**6}")),
        case("an upload of 6 MB and one byte", 413, Call("/upload", length=str(6 * 2**20 + 1))),
        case(
            "a body of 64 kB and one byte in a chunk",
            413,
            Call(
                body=f"10001\r\n{'x' * 65_537}\r\n0\r\n\r\n",
                headers=("Transfer-Encoding: chunked",),
                length="",
            ),
        ),
        *[
            case(f"parts with {name}", 400, Call(body=parts(*ADD_IN_PARTS), content_type=kind))
            for name, kind in (
                ("no boundary", "multipart/form-data"),
                ("an empty boundary", "multipart/form-data; boundary="),
                ("another boundary", "multipart/form-data; boundary=y"),
                ("a boundary of 300 characters", f"multipart/form-data; boundary={'x' * 300}"),
            )
        ],
        *[
            case(
                name,
                status,
                Call(
                    body=parts(*ADD_IN_PARTS[:2], part("add", value, header)),
                    content_type=MULTIPART,
                ),
            )
            for name, status, value, header in (
                ("a part in bogus", 400, "1", "Content-Type: text/plain; charset=bogus"),
                ("a part longer than it is", 400, "1", "Content-Length: 99"),
                ("a part of no number of bytes", 400, "1", "Content-Length: x"),
                # No browser sends one, and RFC 7578 tells to take it literally.
                ("a part in base64", 404, "MQ==", "Content-Transfer-Encoding: base64"),
            )
        ],
    ],
)  # fmt: skip
def test_what_is_no_call_is_0003_and_nothing_happens(
    call: Call,
    status: int,
    hardened_server: Server,
    database_state: DatabaseState,
    ann: Person,
    ben: Person,
) -> None:
    with nothing_happens(hardened_server, database_state, ann):
        heard = say(hardened_server, call, ann)
    assert (heard.status, heard.json) == (status, {"result": "0003", "message": None})
    assert heard.headers["cache-control"] == "no-store"
    assert heard.headers.get("allow") == ("POST" if status == 405 else None)
    assert heard.headers["server"] == ""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(Call(length="10000000000").on_the_wire(), 413, id="10 GB, said to come"),
        # What is too large already is sent, and no more: else the rest would meet a closed door.
        pytest.param(Call(headers=(f"X: {LARGE}",)).on_the_wire()[:16_384], 431, id="headers"),
        pytest.param(Call(f"/friend?{LARGE}").on_the_wire()[:16_384], 431, id="a long address"),
        pytest.param(Call(headers=("X: a\0b",)).on_the_wire(), 400, id="NUL in a header"),
        pytest.param(Call(headers=("X : a",)).on_the_wire(), 400, id="a blank in a header's name"),
        pytest.param(Call(length="-1").on_the_wire(), 400, id="a length below nothing"),
        pytest.param(Call(headers=("Content-Length: 9",)).on_the_wire(), 400, id="two lengths"),
        pytest.param(
            Call(headers=("Transfer-Encoding: xchunked",), length="").on_the_wire(),
            400,
            id="in an encoding that nobody knows",
        ),
        pytest.param(b"\x16\x03\x01\0\xa5\r\n\r\n", 400, id="TLS"),
    ],
)
def test_what_the_server_refuses_by_itself_shows_nothing_of_it(
    request_bytes: bytes,
    status: int,
    hardened_server: Server,
    database_state: DatabaseState,
    ann: Person,
) -> None:
    with nothing_happens(hardened_server, database_state, ann):
        heard = Heard.to(hardened_server, request_bytes)
    assert heard.status == status
    assert b"granian" not in heard.body + repr(heard.headers).encode()
    assert b"Traceback" not in heard.body


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(Call(body=parts(*ADD_IN_PARTS), content_type=MULTIPART), id="in parts"),
        pytest.param(Call(body=ADD + "&coins=999&is_admin=1&id=1"), id="with more than is asked"),
        pytest.param(Call(body=ADD, headers=("Expect: 100-continue",)), id="after a question"),
        pytest.param(Call(body=ADD + "&token[]=x&token.a=x"), id="with fields like the token's"),
    ],
)
def test_what_is_said_otherwise_is_the_same_call(
    call: Call, hardened_server: Server, database_state: DatabaseState, ann: Person, ben: Person
) -> None:
    heard = say(hardened_server, call, ann)
    if "Expect: 100-continue" in call.headers:
        assert heard.status == 100
        heard = Heard.first_of(heard.rest)
    assert (heard.status, heard.json) == (200, {"result": "0000", "message": None})
    assert [message["userId"] for message in ben.messages()] == [ann.phone]
    assert database_state.coins(ann) == 0


def test_a_form_in_chunks_is_a_form(hardened_server: Server, ann: Person, ben: Person) -> None:
    form = ADD.replace("TOKEN", ann.token)
    chunks = "".join(f"{len(chunk):x}\r\n{chunk}\r\n" for chunk in (form[:40], form[40:], ""))
    in_chunks = Call(body=chunks, headers=("Transfer-Encoding: chunked",), length="")
    assert Heard.to(hardened_server, in_chunks.on_the_wire()).json["result"] == "0000"
    assert len(ben.messages()) == 1


@pytest.mark.parametrize("name", ["token[]", "token.a", "token[0]", "Token", "tok%00en"])
def test_a_field_like_the_tokens_is_no_token(
    name: str, hardened_server: Server, database_state: DatabaseState, ann: Person, ben: Person
) -> None:
    call = Call(body=ADD.replace("token", name))
    with nothing_happens(hardened_server, database_state, ann):
        heard = say(hardened_server, call, ann)
    assert (heard.status, heard.json["result"]) == (200, "0012")


LINE = quote("a\r\nX-Evil: y")


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/register", f"token={LINE}"),
        ("/register", f"code_v={LINE}&code={LINE}"),
        ("/register", f"register=1&userId=13800000003&password={LINE}1&nickname={LINE}"),
        ("/register", f"profile=1&token=TOKEN&nickname={LINE}&headImage={LINE}"),
        ("/upload", f"img={LINE}"),
        ("/log", f"userId=13800000001&password={LINE}&expire_in={LINE}"),
        ("/room", f"live=1&token=TOKEN&title={LINE}"),
        ("/list", f"friendlist=1&token={LINE}"),
        ("/friend", f"add=1&token=TOKEN&userId={LINE}"),
        (
            "/friend",
            f"dealMessage=1&token=TOKEN&userId={LINE}&verifyId={LINE}&behaviour=accept",
        ),
        ("/golden", f"refill=1&token=TOKEN&money={LINE}&requestId={LINE}"),
        (
            "/golden",
            f"send_gift=1&token=TOKEN&object=13800000002&value=1&description={LINE}",
        ),
        ("/golden", f"{LINE}={LINE}"),
    ],
    ids=str,
)
def test_no_field_reaches_a_header(
    path: str,
    form: str,
    hardened_server: Server,
    database_state: DatabaseState,
    ann: Person,
    ben: Person,
) -> None:
    with nothing_happens(hardened_server, database_state, ann):
        heard = say(hardened_server, Call(path, form), ann)
    assert heard.json["result"] != "0000"
    assert "x-evil" not in heard.headers
    assert "Evil" not in repr(heard.headers)


def test_whoever_forges_where_he_comes_from_is_counted_where_he_is(
    hardened_server: Server, database_state: DatabaseState, ann: Person
) -> None:
    with nothing_happens(hardened_server, database_state, ann):
        for address in ("198.51.100.1", "198.51.100.2"):
            forged = (f"X-Forwarded-For: {address}", "X-Forwarded-Proto: https")
            heard = say(hardened_server, Call("/upload", "img=x", headers=forged), ann)
            assert heard.json["result"] == "0006"
    (window,) = [row for row in database_state.rows("rate_limit_windows") if "upload" in row["key"]]
    assert "127.0.0.1" in window["key"]
    assert len(window["hits"]) == 2


def test_uploads_that_are_broken_off_leave_no_file_and_hold_no_thread(
    hardened_server: Server, database_state: DatabaseState, ann: Person
) -> None:
    half = Call("/upload", "--x\r\n" + LARGE, content_type=MULTIPART, length="40000").on_the_wire()
    with nothing_happens(hardened_server, database_state, ann):
        # Far more than there are threads.
        for _ in range(40):
            with hardened_server.connect() as connection:
                connection.sendall(half)
