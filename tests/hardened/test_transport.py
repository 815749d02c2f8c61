"""Tests of raw HTTP requests: invalid requests, unusual forms and aborted uploads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

import pytest

from tests.support.api import UserClient
from tests.support.database_state import DatabaseState
from tests.support.rate_limits import subject_digest
from tests.support.raw_http import FORM, RawRequest, RawResponse
from tests.support.servers import HARDENED_SECRET, Server

pytestmark = pytest.mark.processes

# The form of a friend request to Ben; send() replaces TOKEN with the login token of a user.
FRIEND_FORM = "token=TOKEN&userId=13800000002&add=1"
MULTIPART = "multipart/form-data; boundary=x"
TEXT_OF_20_KB = "y" * 20_000


def multipart_body(*parts: str) -> str:
    return "".join(f"--x\r\n{part}\r\n" for part in parts) + "--x--\r\n"


def part(name: str, value: str, *headers: str) -> str:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    return "\r\n".join([disposition, *headers, "", value])


FRIEND_FORM_PARTS = [part("token", "TOKEN"), part("userId", "13800000002"), part("add", "1")]


def case(name: str, status: int, request: RawRequest) -> object:
    return pytest.param(request, status, id=name)


def send(server: Server, request_template: RawRequest, user: UserClient) -> RawResponse:
    """Send a request in which the token of a user replaces `TOKEN`."""
    request = replace(
        request_template,
        path=request_template.path.replace("TOKEN", user.token),
        body=str(request_template.body).replace("TOKEN", user.token),
    )
    return RawResponse.exchange(server, request.encode())


@contextmanager
def assert_unchanged_and_serving(
    server: Server, database_state: DatabaseState, user: UserClient
) -> Iterator[None]:
    """Assert that the `with` block changes no data and sends no SMS.

    After the block, the server must still process requests.
    """
    sms_count = server.read_log().count("code for")
    with database_state.assert_unchanged():
        yield
    assert server.read_log().count("code for") == sms_count
    assert (
        send(server, RawRequest("/list", "token=TOKEN&friendlist=1"), user).json["result"] == "0000"
    )


@pytest.mark.parametrize(
    ("raw_request", "status"),
    [
        *[
            case(f"method {method}", 405, RawRequest(f"/friend?{FRIEND_FORM}", method=method))
            for method in ("GET", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "NONSENSE")
        ],
        case(
            "JSON",
            415,
            RawRequest(
                body=json.dumps({"token": "TOKEN", "add": "1"}), content_type="application/json"
            ),
        ),
        case("plain text", 415, RawRequest(body=FRIEND_FORM, content_type="text/plain")),
        case("no content type", 415, RawRequest(body=FRIEND_FORM, content_type="")),
        *[
            case(
                f"charset {name}",
                415,
                RawRequest(body=FRIEND_FORM, content_type=f"{FORM}; charset={name}"),
            )
            for name in ("gbk", "utf-16", "bogus")
        ],
        case("gzipped", 415, RawRequest(body=FRIEND_FORM, headers=("Content-Encoding: gzip",))),
        case("query string", 400, RawRequest("/friend?x=1", FRIEND_FORM)),
        case("query string that is not UTF-8", 400, RawRequest("/friend?x=%ff", FRIEND_FORM)),
        case("path that is not UTF-8", 400, RawRequest("/%ff", FRIEND_FORM)),
        case("trailing slash", 404, RawRequest("/friend/", FRIEND_FORM)),
        case("two trailing slashes", 404, RawRequest("/friend//", FRIEND_FORM)),
        case("path in capitals", 404, RawRequest("/FRIEND", FRIEND_FORM)),
        case("empty body", 404, RawRequest()),
        case("empty body and no content type", 404, RawRequest(content_type="")),
        case("no content length", 404, RawRequest(body=FRIEND_FORM, length="")),
        case("add and delete", 400, RawRequest(body=FRIEND_FORM + "&delete=1")),
        case("delete and add", 400, RawRequest(body="delete=1&" + FRIEND_FORM)),
        case("add=1 and add=0", 400, RawRequest(body=FRIEND_FORM + "&add=0")),
        case("add twice", 400, RawRequest(body=FRIEND_FORM + "&add=1")),
        case("two tokens", 400, RawRequest(body=FRIEND_FORM + "&token=x")),
        case("live and leave", 400, RawRequest("/room", "token=TOKEN&live=1&leave=1")),
        case(
            "refill and send_gift",
            400,
            RawRequest("/golden", "token=TOKEN&refill=1&send_gift=1&money=10"),
        ),
        case(
            "two list selectors",
            400,
            RawRequest("/list", "token=TOKEN&friendlist=1&messagelist=1"),
        ),
        case(
            "register and code_v",
            400,
            RawRequest(
                "/register", "register=1&userId=13800000003&password=harbour-42&code_v=1234"
            ),
        ),
        case("selector of another path", 404, RawRequest("/room", "token=TOKEN&friendlist=1")),
        case("body of 64 kB and one byte", 413, RawRequest(body=f"{'x' * 65_537}")),
        case(
            "password of 1 MB",
            413,
            RawRequest("/log", f"userId=13800000001&password={'x' * 10**6}"),
        ),
        case("upload of 6 MB and one byte", 413, RawRequest("/upload", length=str(6 * 2**20 + 1))),
        case(
            "chunk of 64 kB and one byte",
            413,
            RawRequest(
                body=f"10001\r\n{'x' * 65_537}\r\n0\r\n\r\n",
                headers=("Transfer-Encoding: chunked",),
                length="",
            ),
        ),
        *[
            case(
                f"multipart with {name}",
                400,
                RawRequest(body=multipart_body(*FRIEND_FORM_PARTS), content_type=content_type),
            )
            for name, content_type in (
                ("no boundary", "multipart/form-data"),
                ("an empty boundary", "multipart/form-data; boundary="),
                ("a wrong boundary", "multipart/form-data; boundary=y"),
                ("a boundary of 300 characters", f"multipart/form-data; boundary={'x' * 300}"),
            )
        ],
        *[
            case(
                name,
                status,
                RawRequest(
                    body=multipart_body(*FRIEND_FORM_PARTS[:2], part("add", value, header)),
                    content_type=MULTIPART,
                ),
            )
            for name, status, value, header in (
                ("part with charset bogus", 400, "1", "Content-Type: text/plain; charset=bogus"),
                ("part with a too large content length", 400, "1", "Content-Length: 99"),
                ("part with an invalid content length", 400, "1", "Content-Length: x"),
                # RFC 7578 deprecates Content-Transfer-Encoding: the server ignores it.
                ("part in base64", 404, "MQ==", "Content-Transfer-Encoding: base64"),
            )
        ],
    ],
)  # fmt: skip
def test_invalid_request_returns_0003_without_side_effects(
    raw_request: RawRequest,
    status: int,
    hardened_server: Server,
    database_state: DatabaseState,
    ann: UserClient,
    ben: UserClient,
) -> None:
    with assert_unchanged_and_serving(hardened_server, database_state, ann):
        response = send(hardened_server, raw_request, ann)
    assert (response.status, response.json) == (status, {"result": "0003", "message": None})
    assert response.headers["cache-control"] == "no-store"
    assert response.headers.get("allow") == ("POST" if status == 405 else None)
    assert response.headers["server"] == ""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(RawRequest(length="10000000000").encode(), 413, id="content length of 10 GB"),
        # The test sends only the first 16,384 bytes, which reach the limit. The server then closes
        # the connection, so sending further bytes would fail.
        pytest.param(
            RawRequest(headers=(f"X: {TEXT_OF_20_KB}",)).encode()[:16_384], 431, id="large header"
        ),
        pytest.param(RawRequest(f"/friend?{TEXT_OF_20_KB}").encode()[:16_384], 431, id="long URL"),
        pytest.param(RawRequest(headers=("X: a\0b",)).encode(), 400, id="NUL in a header"),
        pytest.param(RawRequest(headers=("X : a",)).encode(), 400, id="space in a header name"),
        pytest.param(RawRequest(length="-1").encode(), 400, id="negative content length"),
        pytest.param(
            RawRequest(headers=("Content-Length: 9",)).encode(), 400, id="two content lengths"
        ),
        pytest.param(
            RawRequest(headers=("Transfer-Encoding: xchunked",), length="").encode(),
            400,
            id="unknown transfer encoding",
        ),
        pytest.param(b"\x16\x03\x01\0\xa5\r\n\r\n", 400, id="TLS handshake"),
    ],
)
def test_error_response_of_the_http_server_reveals_no_server_details(
    request_bytes: bytes,
    status: int,
    hardened_server: Server,
    database_state: DatabaseState,
    ann: UserClient,
) -> None:
    with assert_unchanged_and_serving(hardened_server, database_state, ann):
        response = RawResponse.exchange(hardened_server, request_bytes)
    assert response.status == status
    assert b"granian" not in response.body + repr(response.headers).encode()
    assert b"Traceback" not in response.body


@pytest.mark.parametrize(
    "raw_request",
    [
        pytest.param(
            RawRequest(body=multipart_body(*FRIEND_FORM_PARTS), content_type=MULTIPART),
            id="multipart form",
        ),
        pytest.param(
            RawRequest(body=FRIEND_FORM + "&coins=999&is_admin=1&id=1"),
            id="unknown parameters",
        ),
        pytest.param(
            RawRequest(body=FRIEND_FORM, headers=("Expect: 100-continue",)),
            id="Expect: 100-continue",
        ),
        pytest.param(
            RawRequest(body=FRIEND_FORM + "&token[]=x&token.a=x"),
            id="fields with names similar to token",
        ),
    ],
)
def test_unusual_but_valid_request_sends_a_friend_request(
    raw_request: RawRequest,
    hardened_server: Server,
    database_state: DatabaseState,
    ann: UserClient,
    ben: UserClient,
) -> None:
    response = send(hardened_server, raw_request, ann)
    if "Expect: 100-continue" in raw_request.headers:
        assert response.status == 100
        response = RawResponse.parse(response.rest)
    assert (response.status, response.json) == (200, {"result": "0000", "message": None})
    assert [message["userId"] for message in ben.messages()] == [ann.phone]
    assert database_state.coins(ann) == 0


def test_form_with_chunked_encoding_is_accepted(
    hardened_server: Server, ann: UserClient, ben: UserClient
) -> None:
    form = FRIEND_FORM.replace("TOKEN", ann.token)
    chunks = "".join(f"{len(chunk):x}\r\n{chunk}\r\n" for chunk in (form[:40], form[40:], ""))
    chunked_request = RawRequest(body=chunks, headers=("Transfer-Encoding: chunked",), length="")
    assert RawResponse.exchange(hardened_server, chunked_request.encode()).json["result"] == "0000"
    assert len(ben.messages()) == 1


@pytest.mark.parametrize("name", ["token[]", "token.a", "token[0]", "Token", "tok%00en"])
def test_field_name_similar_to_token_returns_0012(
    name: str,
    hardened_server: Server,
    database_state: DatabaseState,
    ann: UserClient,
    ben: UserClient,
) -> None:
    raw_request = RawRequest(body=FRIEND_FORM.replace("token", name))
    with assert_unchanged_and_serving(hardened_server, database_state, ann):
        response = send(hardened_server, raw_request, ann)
    assert (response.status, response.json["result"]) == (200, "0012")


CRLF = quote("a\r\nX-Evil: y")


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/register", f"token={CRLF}"),
        ("/register", f"code_v={CRLF}&code={CRLF}"),
        (
            "/register",
            f"register=1&userId=13800000003&password={CRLF}1&nickname={CRLF}",
        ),
        (
            "/register",
            f"profile=1&token=TOKEN&nickname={CRLF}&headImage={CRLF}",
        ),
        ("/upload", f"img={CRLF}"),
        ("/log", f"userId=13800000001&password={CRLF}&expire_in={CRLF}"),
        ("/room", f"live=1&token=TOKEN&title={CRLF}"),
        ("/list", f"friendlist=1&token={CRLF}"),
        ("/friend", f"add=1&token=TOKEN&userId={CRLF}"),
        (
            "/friend",
            f"dealMessage=1&token=TOKEN&userId={CRLF}&verifyId={CRLF}&behaviour=accept",
        ),
        ("/golden", f"refill=1&token=TOKEN&money={CRLF}&requestId={CRLF}"),
        (
            "/golden",
            f"send_gift=1&token=TOKEN&object=13800000002&value=1&description={CRLF}",
        ),
        ("/golden", f"{CRLF}={CRLF}"),
    ],
    ids=str,
)
def test_line_breaks_in_parameters_add_no_response_header(
    path: str,
    form: str,
    hardened_server: Server,
    database_state: DatabaseState,
    ann: UserClient,
    ben: UserClient,
) -> None:
    with assert_unchanged_and_serving(hardened_server, database_state, ann):
        response = send(hardened_server, RawRequest(path, form), ann)
    assert response.json["result"] != "0000"
    assert "x-evil" not in response.headers
    assert "Evil" not in repr(response.headers)


def test_forged_forwarded_headers_do_not_change_the_address_in_rate_limits(
    hardened_server: Server, database_state: DatabaseState, ann: UserClient
) -> None:
    with assert_unchanged_and_serving(hardened_server, database_state, ann):
        for address in ("198.51.100.1", "198.51.100.2"):
            forged_headers = (f"X-Forwarded-For: {address}", "X-Forwarded-Proto: https")
            wrong_login = f"userId={ann.phone}&password=wrong-1"
            response = send(
                hardened_server, RawRequest("/log", wrong_login, headers=forged_headers), ann
            )
            assert response.json["result"] == "0008"
    (counter,) = [
        row
        for row in database_state.rows("rate_limit_counters")
        if row["key"].startswith("login_address/3600/")
    ]
    assert counter["key"].endswith(subject_digest(HARDENED_SECRET, "127.0.0.1"))
    assert counter["counts"] == [1, 1]


def test_aborted_uploads_leave_no_file_and_occupy_no_thread(
    hardened_server: Server, database_state: DatabaseState, ann: UserClient
) -> None:
    incomplete_request = RawRequest(
        "/upload", "--x\r\n" + TEXT_OF_20_KB, content_type=MULTIPART, length="40000"
    ).encode()
    with assert_unchanged_and_serving(hardened_server, database_state, ann):
        # Abort more uploads than the server has threads.
        for _ in range(40):
            with hardened_server.connect() as connection:
                connection.sendall(incomplete_request)
