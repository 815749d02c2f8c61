"""How a call of Qiniu is signed: its own published examples, and some that its SDK computes."""

import base64
import hmac

import pytest
import requests

from livebackend.gateways.qiniu import QiniuAuth, signed_data

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
X = {"X-Qiniu-Aaa": "DDD", "X-Qiniu-Bbb": "BBB"}
UPLOAD = "http://upload.qiniup.com"
SMS = "https://sms.qiniuapi.com/v1/message/single"
CODE = '{"template_id":"1234567890","mobile":"13800138000","parameters":{"code":"1234"}}'


@pytest.mark.parametrize(
    ("keys", "method", "url", "headers", "body", "signature"),
    [
        # Of Qiniu's own SDKs for Go and Python.
        (
            ("ak", "sk"),
            "GET",
            UPLOAD,
            {"Content-Type": FORM},
            '{"name": "test"}',
            "GShw5NitGmd5TLoo38nDkGUofRw=",
        ),
        (
            ("ak", "sk"),
            "GET",
            UPLOAD,
            {"Content-Type": JSON, **X},
            '{"name": "test"}',
            "DhNA1UCaBqSHCsQjMOLRfVn63GQ=",
        ),
        (
            ("ak", "sk"),
            "GET",
            UPLOAD,
            {"Content-Type": FORM, **X},
            "name=test&language=go",
            "KUAhrYh32P9bv0COD8ugZjDCmII=",
        ),
        (
            ("ak", "sk"),
            "GET",
            UPLOAD + "/mkfile/sdf.jpg?s=er3&df",
            {"Content-Type": FORM, **X},
            "name=test&language=go",
            "PUFPWsEUIpk_dzUvvxTTmwhp3p4=",
        ),
        # Computed with Qiniu's SDK.
        (
            ("test-ak", "test-sk"),
            "POST",
            SMS,
            {"Content-Type": JSON},
            CODE,
            "BTvyy9yFghBPhy69K5obtg6a3YY=",
        ),
        (
            ("test-ak", "test-sk"),
            "POST",
            SMS,
            {"Content-Type": JSON, "X-Qiniu-Date": "20260101T000000Z"},
            CODE,
            "Yc-xXvSW4egFl-k-Cj31BqW4OZQ=",
        ),
    ],
)
def test_signatures_are_qinius_own(
    keys: tuple[str, str],
    method: str,
    url: str,
    headers: dict[str, str],
    body: str,
    signature: str,
) -> None:
    request = requests.Request(method, url, headers=headers, data=body).prepare()
    # Qiniu's examples have no path, where a request has "/".
    if url == UPLOAD:
        signed = signed_data(request).replace(b" /\n", b" \n", 1)
        made = base64.urlsafe_b64encode(hmac.digest(keys[1].encode(), signed, "sha1")).decode()
    else:
        made = QiniuAuth(*keys)(request).headers["Authorization"].rpartition(":")[2]
        assert request.headers["Authorization"] == f"Qiniu {keys[0]}:{signature}"
    assert made == signature
