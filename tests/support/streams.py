"""Streams: their JSON, the settings of their providers, and how a person goes live."""

import json

from tests.support.api import Person
from tests.support.fake_providers import ACCESS_KEY, HUB, SECRET_KEY

# The fields of a stream in the example of the API document, and their types.
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
# Its `hosts`: the names of the hosts of each kind.
STREAM_HOSTS = {
    "live": {"snapshot", "http", "hdl", "hls", "rtmp"},
    "playback": {"http", "hls"},
    "play": {"http", "rtmp"},
    "publish": {"rtmp"},
}


def provider_settings(url: str) -> dict[str, str]:
    """The settings that any provider of streams needs; it is at `url`."""
    return {
        "qiniu.access_key": ACCESS_KEY,
        "qiniu.secret_key": SECRET_KEY,
        "streams.hub": HUB,
        "streams.url": url,
        "streams.control_url": url,
        "streams.hook_secret": "a-secret-of-the-tests-that-is-long-enough",
        "streams.publish_host": "publish.example:1935",
        "streams.rtmp_host": "rtmp.example",
        "streams.hls_host": "hls.example:8080",
    }


def go_live(person: Person) -> str:
    """Go live; return the key of the stream."""
    answer = person.live()
    assert answer.result == "0000", answer
    return str(json.loads(answer.message)["title"])
