"""Tests of the validation of requests and of the selection of operations."""

import pytest
from webtest import TestApp

from livebackend.api.routes import PATHS
from livebackend.development.sms import DevelopmentSms
from tests.support.api import PASSWORD, ApiClient, ApiResponse, App, UserClient
from tests.support.database_state import DatabaseState

INVALID_REQUEST_BODY = {"result": "0003", "message": None}
PHONE = "13800000009"
FORM_CONTENT_TYPE = "application/x-www-form-urlencoded"
MULTIPART_CONTENT_TYPE = "multipart/form-data; boundary=x"
EMPTY_FORM_BY_CONTENT_TYPE = {
    FORM_CONTENT_TYPE: b"x=",
    MULTIPART_CONTENT_TYPE: b'--x\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n--x--\r\n',
}
SELECTORS = {
    "/register": ["register"],
    "/room": ["live", "leave"],
    "/list": ["friendlist", "messagelist"],
    "/friend": ["search", "add", "dealMessage", "delete", "refill", "send_gift", "balance"],
    "/golden": ["refill", "send_gift", "balance", "records", "ranking"],
    "/events": ["ticket"],
}
PATHS_THAT_REQUIRE_A_SELECTOR = [path for path in SELECTORS if path != "/register"]


def is_rejected(response: ApiResponse, status: int, error: str) -> bool:
    return (response.status, response.body, response.error) == (status, INVALID_REQUEST_BODY, error)


class TestPaths:
    @pytest.mark.parametrize(
        "path", ["/nothing", "/register/", "/room/1", "/Register", "/%E4%BD%A0", "//register"]
    )
    def test_unknown_path_is_404(self, path: str, api: ApiClient) -> None:
        assert is_rejected(api.post(path), 404, "path; reason=unknown_path")
        response = TestApp(api.app).get(path, status=404)
        assert response.json == INVALID_REQUEST_BODY

    def test_path_that_is_not_utf8_is_400(self, api: ApiClient) -> None:
        assert is_rejected(api.post_form("/%ff", {}), 400, "path; reason=unknown_path")

    # GET /events opens a stream.
    @pytest.mark.parametrize("path", [path for path in PATHS if path != "events"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_method_other_than_post_is_405(
        self, method: str, path: str, api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = TestApp(api.app).request(
                f"/{path}?token={PHONE}&register=1&live=1", method=method, status="*"
            )
        assert response.status_int == 405
        assert response.headers["Allow"] == "POST"
        assert response.content_type == "application/json"
        if method != "HEAD":
            assert response.json == INVALID_REQUEST_BODY


class TestSelectors:
    @pytest.mark.parametrize("path", PATHS_THAT_REQUIRE_A_SELECTOR)
    @pytest.mark.parametrize("value", ["0", "", "2", "11", "true", "１", "1 ", "01"])
    def test_selector_with_another_value_than_1_selects_no_operation(
        self, value: str, path: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        for selector in SELECTORS[path]:
            with database_state.assert_unchanged():
                response = ann.post(path, **{selector: value})
            assert is_rejected(response, 404, "form; reason=no_selector")

    @pytest.mark.parametrize("path", PATHS_THAT_REQUIRE_A_SELECTOR)
    def test_request_without_a_selector_is_404(self, path: str, ann: UserClient) -> None:
        assert is_rejected(ann.post(path), 404, "form; reason=no_selector")
        assert is_rejected(ApiClient(ann.app).post(path), 404, "form; reason=no_selector")

    @pytest.mark.parametrize("path", PATHS_THAT_REQUIRE_A_SELECTOR)
    def test_request_with_two_selectors_is_400(
        self, path: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        for selector in SELECTORS[path][1:]:
            with database_state.assert_unchanged():
                response = ann.post(path, **{SELECTORS[path][0]: "1", selector: "1", "money": "10"})
            assert is_rejected(response, 400, "form; reason=several_selectors")

    def test_selector_with_value_0_is_ignored(self, ann: UserClient) -> None:
        assert ann.post("/list", friendlist="1", messagelist="0").result == "0000"

    @pytest.mark.parametrize("presence_selector", ["code_v", "code"])
    def test_request_that_selects_register_and_verify_code_is_400(
        self, presence_selector: str, api: ApiClient, database_state: DatabaseState
    ) -> None:
        form = {"register": "1", "userId": PHONE, "password": PASSWORD, presence_selector: ""}
        with database_state.assert_unchanged():
            assert is_rejected(api.post("/register", **form), 400, "form; reason=several_selectors")

    def test_code_with_register_0_selects_verify_code(
        self, api: ApiClient, sms: DevelopmentSms
    ) -> None:
        response = api.post("/register", register="0", token=PHONE, code="1234")
        assert response.result == "0004"
        assert not sms.sent

    def test_selector_of_another_path_is_ignored(self, ann: UserClient) -> None:
        assert ann.post("/list", friendlist="1", live="1").result == "0000"
        assert is_rejected(ann.post("/room", friendlist="1"), 404, "form; reason=no_selector")

    @pytest.mark.parametrize("path", PATHS)
    def test_unknown_parameters_are_ignored(self, path: str, ann: UserClient) -> None:
        selector = {SELECTORS[f"/{path}"][0]: "1"} if f"/{path}" in SELECTORS else {}
        expected_response = ann.post(f"/{path}", **selector, userId=ann.phone, password=PASSWORD)
        response = ann.post(
            f"/{path}", **selector, userId=ann.phone, password=PASSWORD, x="y", 额="外"
        )
        assert response.result == expected_response.result


class TestForms:
    """All paths share one form parser, so most tests use /list."""

    @pytest.mark.parametrize(
        ("content_type", "content_encoding"),
        [
            ("application/json", ""),
            ("text/plain", ""),
            ("application/octet-stream", ""),
            ("multipart/mixed; boundary=x", ""),
            (FORM_CONTENT_TYPE + "; charset=gbk", ""),
            (FORM_CONTENT_TYPE + "; charset=utf-16", ""),
            (FORM_CONTENT_TYPE, "gzip"),
            ("", ""),
            ("nonsense", ""),
        ],
    )
    def test_body_that_is_not_a_utf8_form_is_415(
        self,
        content_type: str,
        content_encoding: str,
        ann: UserClient,
        database_state: DatabaseState,
    ) -> None:
        body = f"token={ann.token}&friendlist=1".encode()
        headers = {"Content-Encoding": content_encoding} if content_encoding else {}
        with database_state.assert_unchanged():
            response = ann.post_bytes("/list", body, content_type, **headers)
        assert is_rejected(response, 415, "body; reason=unsupported_media_type")

    @pytest.mark.parametrize(
        "content_type",
        [
            FORM_CONTENT_TYPE,
            FORM_CONTENT_TYPE + "; charset=UTF-8",
            FORM_CONTENT_TYPE + ';charset="utf-8"',
            FORM_CONTENT_TYPE.upper(),
        ],
    )
    def test_utf8_charset_is_accepted_in_any_spelling(
        self, content_type: str, ann: UserClient
    ) -> None:
        body = f"token={ann.token}&friendlist=1".encode()
        assert ann.post_bytes("/list", body, content_type).result == "0000"

    def test_empty_body_needs_no_content_type(self, api: ApiClient) -> None:
        response = api.post_bytes("/register", b"", "")
        assert (response.status, response.result) == (200, "0002")

    def test_empty_body_with_another_content_type_is_415(self, api: ApiClient) -> None:
        response = api.post_bytes("/register", b"", "application/json")
        assert response.status == 415

    @pytest.mark.parametrize(
        ("path", "content_type", "max_bytes"),
        [
            *[(path, FORM_CONTENT_TYPE, 65_536) for path in PATHS],
            *[(path, MULTIPART_CONTENT_TYPE, 65_536) for path in PATHS if path != "upload"],
            ("upload", MULTIPART_CONTENT_TYPE, 6_291_456),
        ],
    )
    def test_body_over_the_size_limit_is_413(
        self,
        path: str,
        content_type: str,
        max_bytes: int,
        api: ApiClient,
        database_state: DatabaseState,
    ) -> None:
        body = EMPTY_FORM_BY_CONTENT_TYPE[content_type]
        padding = b"y" * (max_bytes - len(body))
        response = api.post_bytes(f"/{path}", body + padding, content_type)
        assert response.status in (200, 404)
        with database_state.assert_unchanged():
            response = api.post_bytes(f"/{path}", body + padding + b"y", content_type)
        assert is_rejected(response, 413, f"body; reason=too_large; max={max_bytes}")

    @pytest.mark.parametrize(
        "form", ["token=1&token=2", "friendlist=1&friendlist=1", "x=1&x=", "x&x", "x=1&%78=1"]
    )
    def test_duplicate_name_in_a_urlencoded_form_is_400(
        self, form: str, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            for body in (f"{form}&friendlist=1", f"messagelist=1&{form}"):
                response = ann.post_bytes("/list", body.encode(), FORM_CONTENT_TYPE)
                assert is_rejected(response, 400, "parameter; reason=duplicate_parameter")

    @pytest.mark.parametrize("form", [b"x=%ff", b"%ff=x", b"x=\xff", b"x=%ed%a0%80", b"x=%c0%80"])
    def test_urlencoded_bytes_that_are_not_utf8_are_400(self, form: bytes, ann: UserClient) -> None:
        response = ann.post_bytes("/list", b"friendlist=1&" + form, FORM_CONTENT_TYPE)
        assert is_rejected(response, 400, "form; reason=malformed_form")

    def test_urlencoded_form_with_more_than_100_fields_is_400(self, ann: UserClient) -> None:
        form = {"token": ann.token, "friendlist": "1"}
        assert ann.post_form("/list", form | {f"x{n}": "1" for n in range(98)}).result == "0000"
        response = ann.post_form("/list", form | {f"x{n}": "1" for n in range(99)})
        assert is_rejected(response, 400, "form; reason=too_many_fields; max=100")
        response = ann.post_bytes("/list", b"&" * 101, FORM_CONTENT_TYPE)
        assert response.status == 400

    def test_urlencoded_plus_is_decoded_as_a_space_and_percent_escapes_as_utf8(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        body = f"token={ann.token}&live=1&title=a+%E4%BD%A0%2B".encode()
        assert ann.post_bytes("/room", body, FORM_CONTENT_TYPE).result == "0000"
        assert database_state.rows("rooms")[0]["title"] == "a 你+"


class TestMultipart:
    def send(self, api: ApiClient, body: bytes, content_type: str = "") -> ApiResponse:
        return api.post_bytes("/list", body, content_type or "multipart/form-data; boundary=x")

    def new_part(self, name: str, value: str, attributes: str = "") -> bytes:
        part_header = f'--x\r\nContent-Disposition: form-data; name="{name}"{attributes}\r\n\r\n'
        return f"{part_header}{value}\r\n".encode()

    def test_multipart_form_is_accepted(self, ann: UserClient) -> None:
        body = self.new_part("token", ann.token) + self.new_part("friendlist", "1") + b"--x--\r\n"
        assert self.send(ann, body).result == "0000"

    @pytest.mark.parametrize(
        "content_type",
        [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=y",
            "multipart/form-data; boundary=" + "x" * 71,
        ],
    )
    def test_multipart_form_with_a_wrong_or_missing_boundary_is_400(
        self, content_type: str, ann: UserClient
    ) -> None:
        body = self.new_part("token", ann.token) + self.new_part("friendlist", "1") + b"--x--\r\n"
        response = self.send(ann, body, content_type)
        assert is_rejected(response, 400, "form; reason=malformed_form")

    @pytest.mark.parametrize(
        "body",
        [
            b"nonsense",
            b"--x\r\n",
            b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1",
            b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n",
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
            b"--x\r\nX: y\r\n\r\n1\r\n--x--\r\n",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--\r\n',
            b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--x--\r\n',
            (
                b'--x\r\nContent-Disposition: form-data; name="a"\r\n'
                b"Content-Type: text/plain; charset=gbk\r\n\r\n1\r\n--x--\r\n"
            ),
            b"\xff" * 100,
        ],
    )
    def test_malformed_multipart_form_is_400(self, body: bytes, ann: UserClient) -> None:
        assert is_rejected(self.send(ann, body), 400, "form; reason=malformed_form")

    def test_duplicate_name_in_a_multipart_form_is_400(self, ann: UserClient) -> None:
        body = self.new_part("friendlist", "1") * 2 + b"--x--\r\n"
        assert is_rejected(self.send(ann, body), 400, "parameter; reason=duplicate_parameter")

    @pytest.mark.parametrize("field_count", [101, 1000])
    def test_multipart_form_with_more_than_100_fields_is_400(
        self, field_count: int, ann: UserClient
    ) -> None:
        body = b"".join(self.new_part(f"f{n}", "1") for n in range(field_count)) + b"--x--\r\n"
        response = self.send(ann, body)
        assert is_rejected(response, 400, "form; reason=too_many_fields; max=100")

    def test_uploaded_file_is_not_read_as_a_selector_or_token(self, ann: UserClient) -> None:
        filename_attribute = '; filename="1"'
        body = self.new_part("friendlist", "1", filename_attribute) + b"--x--\r\n"
        assert is_rejected(self.send(ann, body), 404, "form; reason=no_selector")
        body = (
            self.new_part("token", ann.token, filename_attribute)
            + self.new_part("friendlist", "1")
            + b"--x--\r\n"
        )
        assert self.send(ann, body).result == "0012"


class TestQuery:
    def test_query_string_parameters_are_read(self, ann: UserClient) -> None:
        response = ann.post_form(f"/list?token={ann.token}&friendlist=1", {})
        assert response.result == "0000"
        response = ann.post_form("/list?friendlist=1", {"token": ann.token})
        assert response.result == "0000"

    def test_parameter_in_query_string_and_body_is_400(self, ann: UserClient) -> None:
        response = ann.post_form("/list?friendlist=1", {"token": ann.token, "friendlist": "1"})
        assert is_rejected(response, 400, "parameter; reason=duplicate_parameter")

    def test_query_string_that_is_not_utf8_is_400(self, ann: UserClient) -> None:
        response = ann.post_form("/list?x=%ff", {"token": ann.token, "friendlist": "1"})
        assert is_rejected(response, 400, "form; reason=malformed_form")

    def test_query_string_is_400_if_the_settings_forbid_it(
        self, new_app: object, ann: UserClient, database_state: DatabaseState
    ) -> None:
        app: App = new_app(http__allow_query_parameters="false")  # type: ignore[operator]
        with database_state.assert_unchanged():
            response = ann.__class__(app, {}, ann.phone).post_form(
                "/list?x=1", {"token": ann.token, "friendlist": "1"}
            )
        assert is_rejected(response, 400, "query; reason=query_not_allowed")
