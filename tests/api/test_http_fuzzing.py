"""Fuzz tests: every request gets a response envelope and never status 500."""

from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from webtest import TestRequest

from livebackend.api.routes import PATHS
from tests.support.api import ApiClient, UserClient

STATUSES = {200, 400, 404, 405, 413, 415, 503}
FORM_CONTENT_TYPE = "application/x-www-form-urlencoded"
MULTIPART_CONTENT_TYPE = "multipart/form-data; boundary=x"

paths = st.sampled_from([f"/{path}" for path in PATHS])
content_types = st.sampled_from(
    [
        FORM_CONTENT_TYPE,
        MULTIPART_CONTENT_TYPE,
        FORM_CONTENT_TYPE + "; charset=utf-8",
        "",
        "text/plain",
    ]
)
PARAMETER_NAMES = """
    token userId password register gender nickname headImage code_v code img expire_in title live
    leave friendlist messagelist search add dealMessage delete verifyId objectId behaviour
    money refill value object description send_gift requestId balance records ranking before limit
"""
parameter_names = st.sampled_from(PARAMETER_NAMES.split())
# Valid and random values, so that some requests pass validation.
values = st.one_of(
    st.sampled_from(
        ["1", "13800000001", "13800000002", "abcd1234", "10", "accept", "13800000002,1", "1234"]
    ),
    st.text(max_size=40),
    st.text(alphabet="\0\n\x7f\u0085\u2028\u202e\ud7ff\uffff𐀀１元,，+%", max_size=8),
    st.integers().map(str),
)
forms = st.dictionaries(parameter_names, values, max_size=8)


def send(api: ApiClient, path: str, body: bytes, content_type: str) -> None:
    # `api` also validates each response against the OpenAPI schema.
    response = api.post_bytes(path, body, content_type)
    assert response.status in STATUSES
    assert response.body.keys() >= {"result", "message"}


@pytest.mark.timeout(300)
class TestRandomBytes:
    @settings(max_examples=300)
    @given(path=paths, body=st.binary(max_size=2000), content_type=content_types)
    @example(path="/list", body=b"\0", content_type=FORM_CONTENT_TYPE)
    @example(path="/list", body=b"%", content_type=FORM_CONTENT_TYPE)
    @example(path="/upload", body=b"--x\r\n\r\n--x--", content_type=MULTIPART_CONTENT_TYPE)
    def test_random_body_gets_an_envelope(
        self, path: str, body: bytes, content_type: str, api: ApiClient
    ) -> None:
        send(api, path, body, content_type)

    @settings(max_examples=200)
    @given(path=paths, content_type=st.text(st.characters(max_codepoint=255), max_size=60))
    def test_random_content_type_gets_an_envelope(
        self, path: str, content_type: str, api: ApiClient
    ) -> None:
        send(api, path, b"token=1", content_type)

    @settings(max_examples=200)
    @given(path=st.binary(max_size=60))
    def test_random_path_gets_an_envelope(self, path: bytes, api: ApiClient) -> None:
        request = TestRequest.blank("/" + quote(path), method="POST", body=b"")
        response = request.get_response(api.app)
        assert response.status_int in STATUSES
        assert response.json["result"] in ("0003", "0002", "0007", "0006")

    @settings(max_examples=200)
    @given(path=paths, query=st.binary(max_size=60))
    def test_random_query_string_gets_an_envelope(
        self, path: str, query: bytes, api: ApiClient
    ) -> None:
        request = TestRequest.blank(path, method="POST", body=b"")
        request.environ["QUERY_STRING"] = query.decode("latin-1")
        response = request.get_response(api.app)
        assert response.status_int in STATUSES
        assert response.json.keys() == {"result", "message"}

    @settings(max_examples=200)
    @given(path=paths, filename=st.binary(max_size=80), content=st.binary(max_size=200))
    def test_random_multipart_part_gets_an_envelope(
        self, path: str, filename: bytes, content: bytes, api: ApiClient
    ) -> None:
        disposition = b'--x\r\nContent-Disposition: form-data; name="img"; filename="'
        send(
            api,
            path,
            disposition + filename + b'"\r\n\r\n' + content + b"\r\n--x--\r\n",
            MULTIPART_CONTENT_TYPE,
        )


@pytest.mark.timeout(300)
@pytest.mark.processes
class TestRandomForms:
    @settings(max_examples=500)
    @given(path=paths, form=forms)
    def test_random_form_without_login_token_gets_an_envelope(
        self, path: str, form: dict[str, str], api: ApiClient
    ) -> None:
        send(api, path, urlencode(form, errors="surrogatepass").encode(), FORM_CONTENT_TYPE)

    @settings(max_examples=500)
    @given(path=paths, form=forms, selector=parameter_names)
    def test_random_form_with_login_token_gets_an_envelope(
        self, path: str, form: dict[str, str], selector: str, ann: UserClient, ben: UserClient
    ) -> None:
        form = {**form, selector: "1", "token": ann.token}
        send(ann, path, urlencode(form, errors="surrogatepass").encode(), FORM_CONTENT_TYPE)
