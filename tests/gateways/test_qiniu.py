"""Tests of Qiniu's signatures.

The expected values are test vectors of Qiniu's SDKs, or were computed with these SDKs.
"""

import base64
import json
from typing import Any

import pytest
import requests

from livebackend.gateways.qiniu import QiniuAuth, signature

JSON_TYPE, FORM_TYPE = "application/json", "application/x-www-form-urlencoded"
JSON_BODY = b'{"name": "test"}'
TITLE = "586f00dd5e77b017852a1a7e"
ENCODED_TITLE = "NTg2ZjAwZGQ1ZTc3YjAxNzg1MmExYTdl"
PILI_HOST, SMS_HOST = "pili.qiniuapi.com", "sms.qiniuapi.com"
SMS_BODY = b'{"template_id":"1234567890","mobile":"13800138000","parameters":{"code":"1234"}}'
QINIU_HEADERS = {"X-Qiniu-Bbb": "BBB", "x-qiniu-aaa": "DDD", "X-Qiniu-": "", "X-Other": "1"}


def authorization_header(
    auth: QiniuAuth, method: str, target: str, host: str, body: bytes, **headers: str
) -> str:
    return auth.authorization(method, target, host=host, headers=headers, body=body)


@pytest.mark.parametrize(
    ("method", "target", "host", "content_type", "extra_headers", "body", "expected"),
    [
        ("GET", "", "", JSON_TYPE, {}, JSON_BODY, "K1DI0goT05yhGizDFE5FiPJxAj4="),
        ("POST", "", "", JSON_TYPE, {}, JSON_BODY, "0ujEjW_vLRZxebsveBgqa3JyQ-w="),
        ("GET", "", "", FORM_TYPE, {}, JSON_BODY, "0i1vKClRDWFyNkcTFzwcE7PzX74="),
        ("GET", "", "upload.qiniup.com", FORM_TYPE, {}, JSON_BODY, "GShw5NitGmd5TLoo38nDkGUofRw="),
        (
            "GET",
            "",
            "upload.qiniup.com",
            JSON_TYPE,
            QINIU_HEADERS,
            JSON_BODY,
            "DhNA1UCaBqSHCsQjMOLRfVn63GQ=",
        ),
        (
            *("GET", "", "upload.qiniup.com", FORM_TYPE, QINIU_HEADERS, b"name=test&language=go"),
            "KUAhrYh32P9bv0COD8ugZjDCmII=",
        ),
        (
            *("GET", "/mkfile/sdf.jpg?s=er3&df", "upload.qiniup.com", FORM_TYPE, QINIU_HEADERS),
            *(b"name=test&language=go", "PUFPWsEUIpk_dzUvvxTTmwhp3p4="),
        ),
    ],
)
def test_signature_matches_the_vectors_of_the_sdks(
    method: str,
    target: str,
    host: str,
    content_type: str,
    extra_headers: dict[str, str],
    body: bytes,
    expected: str,
) -> None:
    headers = {"Content-Type": content_type, **extra_headers}
    assert authorization_header(QiniuAuth("ak", "sk"), method, target, host, body, **headers) == (
        f"Qiniu ak:{expected}"
    )


PILI_REQUESTS = [
    (
        *("POST", "/v1/streams", JSON_TYPE),
        b'{"hub":"mrpyq","title":"586f00dd5e77b017852a1a7e","publishSecurity":"static"}',
        "_WjM8QkwHqWU5a1rGByP4Iwp-zc=",
    ),
    ("GET", f"/v1/streams/z1.mrpyq.{TITLE}", "", b"", "6GBhyyatEToIaF5VjMiB5fjAC4g="),
    ("GET", f"/v1/streams/z1.mrpyq.{TITLE}/status", "", b"", "c3UmeSnA0yEHLoIPeD97FiGXQT4="),
    (
        *("GET", "/v1/streams?hub=mrpyq&status=connected&limit=10", "", b""),
        "-c-AeSBKcU6ir9g-wnJtPDCYszE=",
    ),
    (
        *("POST", f"/v1/streams/z1.mrpyq.{TITLE}", JSON_TYPE, b'{"disabled":true}'),
        "wkycP6JXzo3tyR4iTI304fwZNfg=",
    ),
    (
        *("POST", f"/v1/streams/z1.mrpyq.{TITLE}/available", JSON_TYPE),
        *(b'{"available":"disabled","disabledTill":1700000000}', "NIDyxf5TZf-ALODuxf7Hl7QRwJY="),
    ),
    ("DELETE", f"/v1/streams/z1.mrpyq.{TITLE}", "", b"", "z89ZXfviyaPOcnEV-eFs7fJG1cI="),
    (
        *("POST", "/v2/hubs/mrpyq/streams", JSON_TYPE, b'{"key":"586f00dd5e77b017852a1a7e"}'),
        "hFxfNlniR2xZ206mNJQP7SnetMQ=",
    ),
    (
        *("GET", f"/v2/hubs/mrpyq/streams/{ENCODED_TITLE}/live", FORM_TYPE, b""),
        "SeNOYvhy7wk6O460bfb0tMkD8Us=",
    ),
    (
        *(
            "POST",
            f"/v2/hubs/mrpyq/streams/{ENCODED_TITLE}/disabled",
            JSON_TYPE,
            b'{"disabledTill":-1}',
        ),
        "dqaFzEDL3tejOMzwq9vhD2ud_iU=",
    ),
    (
        *(
            "POST",
            "/v2/hubs/mrpyq/livestreams",
            JSON_TYPE,
            b'{"items":["586f00dd5e77b017852a1a7e"]}',
        ),
        "RFTWfKYjFclpt11VOH1X_IBTZ8g=",
    ),
]


@pytest.mark.parametrize(("method", "target", "content_type", "body", "expected"), PILI_REQUESTS)
def test_pili_request_is_signed_as_it_is_sent(
    method: str, target: str, content_type: str, body: bytes, expected: str
) -> None:
    """The requests library calls QiniuAuth, which signs the host of the URL."""
    request = requests.Request(
        method,
        f"https://{PILI_HOST}{target}",
        data=body or None,
        headers={"Content-Type": content_type} if content_type else {},
        auth=QiniuAuth("test-ak", "test-sk"),
    ).prepare()
    assert request.headers["Authorization"] == f"Qiniu test-ak:{expected}"


@pytest.mark.parametrize(
    ("extra_headers", "expected"),
    [
        ({}, "BTvyy9yFghBPhy69K5obtg6a3YY="),
        ({"X-Qiniu-Date": "20260101T000000Z"}, "Yc-xXvSW4egFl-k-Cj31BqW4OZQ="),
    ],
)
def test_sms_request_is_signed(extra_headers: dict[str, str], expected: str) -> None:
    headers = {"Content-Type": JSON_TYPE, **extra_headers}
    auth = QiniuAuth("test-ak", "test-sk")
    authorization = authorization_header(
        auth, "POST", "/v1/message/single", SMS_HOST, SMS_BODY, **headers
    )
    assert authorization == f"Qiniu test-ak:{expected}"


def test_body_of_an_octet_stream_is_not_signed() -> None:
    auth = QiniuAuth("ak", "sk")
    headers = {"Content-Type": "application/octet-stream"}
    assert authorization_header(auth, "PUT", "/x", "h", b"1", **headers) == authorization_header(
        auth, "PUT", "/x", "h", b"", **headers
    )


SDK_CALLBACK_BODY = (
    b"name=sunflower.jpg&hash=Fn6qeQi4VDLQ347NiRm-RlQx_4O2&location=Shanghai&price=1500.00&uid=123"
)
CALLBACK: dict[str, Any] = {
    "method": "POST",
    "target": "/callback",
    "host": "foo.com",
    "headers": {
        "content-type": FORM_TYPE,
        "AUTHORIZATION": "Qiniu test-ak:RYVhq0HoQ7YF0n26Jm44yGQ5-ak=",
    },
    "body": b"extra=foo&ip=22.73.202.226&status=connected&title=stream1",
}


class TestCallback:
    def test_callback_signed_by_qiniu_has_a_valid_signature(self) -> None:
        assert QiniuAuth("test-ak", "test-sk").has_valid_signature(**CALLBACK)

    def test_callback_vector_of_the_sdk_has_a_valid_signature(self) -> None:
        headers = {
            "Content-Type": FORM_TYPE,
            "X-Qiniu-Bbb": "BBB",
            "Authorization": "Qiniu abcdefghklmnopq:ZqS7EZuAKrhZaEIxqNGxDJi41IQ=",
        }
        auth = QiniuAuth("abcdefghklmnopq", "1234567890")
        assert auth.has_valid_signature(
            "GET", "/callback", host="test.qiniu.com", headers=headers, body=SDK_CALLBACK_BODY
        )

    @pytest.mark.parametrize(
        "changed_arguments",
        [
            {"method": "PUT"},
            {"target": "/callback?a=1"},
            {"host": "evil.example"},
            {"body": b"extra=foo&ip=22.73.202.226&status=connected&title=stream2"},
            {"headers": {"content-type": FORM_TYPE}},
            {"headers": {**CALLBACK["headers"], "X-Qiniu-More": "1"}},
            {"headers": {**CALLBACK["headers"], "content-type": JSON_TYPE}},
            {"headers": {"content-type": FORM_TYPE, "Authorization": "Qiniu test-ak:"}},
            {"headers": {"content-type": FORM_TYPE, "Authorization": "Qiniu test-ak:é"}},
            {"headers": {"content-type": FORM_TYPE, "Authorization": "QBox test-ak:x"}},
        ],
    )
    def test_modified_callback_has_an_invalid_signature(
        self, changed_arguments: dict[str, Any]
    ) -> None:
        assert not QiniuAuth("test-ak", "test-sk").has_valid_signature(
            **{**CALLBACK, **changed_arguments}
        )


def test_token_and_signature_match_the_vectors_of_the_sdk() -> None:
    """The test vectors are from the SDK's tests of upload tokens, which sign a policy."""
    policy = base64.urlsafe_b64encode(
        json.dumps({"scope": "avatars:u/1.jpg", "deadline": 1700000000}, separators=(",", ":"))
        .encode()
    )  # fmt: skip
    assert QiniuAuth("test-ak", "test-sk").token(policy) == ("test-ak:I6KAuaAiplB7sjjMvg6ICVjaYYM=")
    private_url = b"http://img.example.com/u/1.jpg?e=1700000000"
    assert (
        QiniuAuth("test-ak", "test-sk").token(private_url) == "test-ak:QsD7PBPxD-VFE81z9xe3o-5YRI4="
    )
    assert signature(b"1234567890", base64.urlsafe_b64encode(b"test")) == (
        "-jP8eEV9v48MkYiBGs81aDxl60E="
    )
    assert signature(b"1234567890", b"test") == "mSNBTR7uS2crJsyFr2Amwv1LaYg="
