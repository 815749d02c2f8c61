"""Publish URLs of all five kinds, compared with test vectors."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from livebackend.gateways.qiniu import QiniuAuth
from livebackend.gateways.streams.publish_urls import (
    PUBLISH_SECURITY_KINDS,
    PublishUrlSigner,
    UrlValidity,
    publish_path,
)

PATH = "/mrpyq/586f00dd5e77b017852a1a7e"
DOCUMENT: dict[str, Any] = {
    "hub": "mrpyq",
    "title": "586f00dd5e77b017852a1a7e",
    "publishKey": "96aaffaee4505e6d",
    "publishSecurity": "static",
    "hosts": {"publish": {"rtmp": "pili-publish.mrpyq.com"}},
}
ACCESS_KEY = "7O7hf7Ld1RrC_fpZdFvU8aCgOPuhw2K4eapYOdII"
SECRET_KEY = "312ae9gd2BrCfpTdF4U8aIg9Puh62K4eEGY72Ea_"


def signed_target(kind: str, path: str, key: str, *, expires_at: int = 0, nonce: int = 0) -> str:
    auth = QiniuAuth("test-ak", "test-sk")
    return publish_path(
        kind,
        path,
        key=key,
        validity=UrlValidity(expires_at=expires_at, nonce=nonce),
        auth=auth,
    )


# The test vectors of the following four tests are from Pili's Go SDK.


def test_static_url_keeps_other_parameters_and_replaces_the_key() -> None:
    url = signed_target("static", "/hub/streamTitle?xyz=custom&key=abc", "test123")
    assert url == "/hub/streamTitle?key=test123&xyz=custom"


def test_expiry_url_keeps_other_parameters() -> None:
    url = signed_target("expiry", "/hub/streamTitle?xyz=custom", "test123", expires_at=1634745600)
    token = "fH7U5UgXdClDfeGmUKc6wrNzlho="
    assert url == f"/hub/streamTitle?expire=1634745600&xyz=custom&token={token}"


def test_expiry_sk_url_matches_the_vector_of_the_sdk() -> None:
    url = publish_path(
        "expiry_sk",
        "/testhub/teststreamtitle",
        key="",
        validity=UrlValidity(expires_at=1584522520, nonce=0),
        auth=QiniuAuth(ACCESS_KEY, SECRET_KEY),
    )
    token = f"{ACCESS_KEY}:NfI2OWGCMdFDTLOfeUd-zSPVrFY="
    assert url == f"/testhub/teststreamtitle?e=1584522520&token={token}"


def test_dynamic_url_matches_the_vector_of_the_sdk() -> None:
    url = signed_target("dynamic", "/hub/streamTitle", "test123", nonce=123)
    assert url == "/hub/streamTitle?nonce=123&token=NFFIx_Hi5MdyJGj3Aubsf6jbma8="


def test_expiry_url_matches_the_vector_of_pilis_manual() -> None:
    url = signed_target("expiry", "/testhub/teststreamtitle", "12345678", expires_at=1584522520)
    token = "zYvN7rHgJiw2QUSo_xRoBZIf1kM="
    assert url == f"/testhub/teststreamtitle?expire=1584522520&token={token}"


# The test vectors of this test are from Qiniu's SDK.
@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("none", ""),
        ("static", "?key=96aaffaee4505e6d"),
        ("dynamic", "?nonce=1483669725&token=0WekkkB6bVOTKffObqIMCaWTV7Y="),
        ("expiry", "?expire=1700000000&token=b_-qhwV1p5GZ9psnWlE6f3QOrUs="),
        ("expiry_sk", "?e=1700000000&token=test-ak:G0q3TEUSB_sKvjWs0DT0Xw0L0oI="),
    ],
)
def test_url_of_the_example_stream_matches_its_vector(kind: str, query: str) -> None:
    key = DOCUMENT["publishKey"]
    assert (
        signed_target(kind, PATH, key, expires_at=1_700_000_000, nonce=1_483_669_725)
        == PATH + query
    )


def signer(now: float) -> PublishUrlSigner:
    return PublishUrlSigner(lambda: now, lifetime_s=600, auth=QiniuAuth("test-ak", "test-sk"))


@pytest.mark.parametrize("kind", PUBLISH_SECURITY_KINDS)
def test_publish_url_contains_no_secret_key(kind: str) -> None:
    url = signer(1_700_000_000).url({**DOCUMENT, "publishSecurity": kind})
    assert url.startswith(f"rtmp://pili-publish.mrpyq.com{PATH}")
    assert "test-sk" not in url
    # Only a static URL contains the publish key.
    assert (DOCUMENT["publishKey"] in url) is (kind == "static")


def test_expiry_url_expires_after_its_lifetime() -> None:
    url = signer(1_700_000_000.9).url({**DOCUMENT, "publishSecurity": "expiry"})
    assert parse_qs(urlsplit(url).query)["expire"] == ["1700000600"]


def test_each_nonce_is_greater_than_the_previous_one() -> None:
    document = {**DOCUMENT, "publishSecurity": "dynamic"}
    nonces = [
        int(parse_qs(urlsplit(signer(now).url(document)).query)["nonce"][0])
        for now in (1_700_000_000.001, 1_700_000_000.002, 1_700_000_001.0)
    ]
    assert nonces == sorted(set(nonces))


def test_unknown_kind_and_missing_account_keys_raise_value_error() -> None:
    with pytest.raises(ValueError, match="magic"):
        signed_target("magic", PATH, "key")
    with pytest.raises(ValueError, match="expiry_sk"):
        publish_path("expiry_sk", PATH, key="", validity=UrlValidity(1, 1))
