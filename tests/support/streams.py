"""Helpers for tests of streams: JSON fields, provider settings, going live."""

import json

from tests.support.api import UserClient
from tests.support.fake_providers import ACCESS_KEY, HUB, SECRET_KEY

# Fields and types of the example stream in the API document.
STREAM_FIELDS = {
    "nonce": int,
    "publishSecurity": str,
    "hub": str,
    "expireAt": str,
    "title": str,
    "publishKey": str,
    "disabled": bool,
    "disabledTill": int,
    "nropEnable": type(None),
    "hosts": dict,
    "updatedAt": str,
    "id": str,
    "createdAt": str,
}
# Keys of the `hosts` field, and the keys of each of its values.
STREAM_HOSTS = {
    "live": {"snapshot", "http", "hdl", "hls", "rtmp"},
    "playback": {"http", "hls"},
    "play": {"http", "rtmp"},
    "publish": {"rtmp"},
}


def provider_settings(url: str) -> dict[str, str]:
    """Return settings for all stream providers; `url` is the address of their API."""
    return {
        "qiniu.access_key": ACCESS_KEY,
        "qiniu.secret_key": SECRET_KEY,
        "streams.hub": HUB,
        "streams.api_url": url,
        # For PiliV2, which does not support the default. Pili v1 returns the mode of each stream.
        "streams.publish_security": "expiry_sk",
        "streams.control_url": url,
        "streams.hook_secret": "a-secret-of-the-tests-that-is-long-enough",
        "streams.publish_host": "publish.example:1935",
        "streams.rtmp_host": "rtmp.example",
        "streams.hls_host": "hls.example:8080",
    }


def go_live(user: UserClient) -> str:
    """Let the user go live; return the stream key."""
    response = user.go_live()
    assert response.result == "0000", response
    return str(json.loads(response.message)["title"])
