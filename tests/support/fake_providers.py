"""Fake stream providers: Qiniu Pili v1 and v2, and the RTMP module of nginx."""

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.fake_server import FakeResponse, FakeServer, ReceivedRequest

ACCESS_KEY, SECRET_KEY, HUB = "test-ak", "test-sk", "mrpyq"


def is_signed(request: ReceivedRequest) -> bool:
    """Return whether a request has a valid Qiniu signature.

    This function follows Qiniu's documentation and uses no code of `livebackend.gateways.qiniu`.
    """
    headers = {name.lower(): value for name, value in request.headers.items()}
    data = f"{request.method} {request.target}\nHost: {headers['host']}"
    if "content-type" in headers:
        data += f"\nContent-Type: {headers['content-type']}"
    data += "\n\n"
    if headers.get("content-type") not in (None, "application/octet-stream"):
        data += request.body.decode()
    digest = hmac.new(SECRET_KEY.encode(), data.encode(), hashlib.sha1).digest()
    expected = f"Qiniu {ACCESS_KEY}:{base64.urlsafe_b64encode(digest).decode()}"
    return headers.get("authorization") == expected


def json_response(value: Any, status: str = "200 OK") -> FakeResponse:
    return FakeResponse(status, json.dumps(value).encode())


STREAM_NOT_FOUND = json_response({"error": "stream not found"}, "612 stream not found")


@dataclass
class FakeStream:
    publish_key: str = ""
    disabled: bool = False
    is_publishing: bool = False


@dataclass
class FakeStreamProvider:
    """Streams of a fake provider, and methods that start and stop publishers."""

    streams: dict[str, FakeStream] = field(default_factory=dict)
    # One entry for each request that creates or disables a stream.
    changes: list[str] = field(default_factory=list)
    # If set, responses of Pili v1 contain these values as `publishSecurity` and `hub`. With a
    # `reported_hub`, Pili v2 rejects each request with status 612.
    reported_security: str = ""
    reported_hub: str = ""
    # The zone in the stream ids of Pili v1, and, if set, the id in all its streams.
    zone: str = "z1"
    reported_id: str = ""
    # If set, the HLS domain of all streams of Pili v1.
    reported_domain: str = ""
    # Times and other fields that replace those of every stream of Pili v2.
    reported_info: dict[str, Any] = field(default_factory=dict)
    server: FakeServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = FakeServer(self.respond)

    def start_publishing(self, key: str) -> None:
        """Start publishing a stream, unless the stream is disabled."""
        if not self.streams[key].disabled:
            self.streams[key].is_publishing = True

    def stop_publishing(self, key: str) -> None:
        self.streams[key].is_publishing = False

    def drop_stream(self, key: str) -> None:
        del self.streams[key]

    def is_publishing(self, key: str) -> bool:
        return key in self.streams and self.streams[key].is_publishing

    def disable(self, key: str) -> None:
        self.streams[key].disabled, self.streams[key].is_publishing = True, False

    def respond(self, request: ReceivedRequest) -> FakeResponse:
        if not is_signed(request):
            return json_response({"error": "bad token"}, "401 Unauthorized")
        return self.route(request)

    def route(self, request: ReceivedRequest) -> FakeResponse:
        raise NotImplementedError


class FakePiliV1(FakeStreamProvider):
    def route(self, request: ReceivedRequest) -> FakeResponse:
        body = json.loads(request.body) if request.body else {}
        if (request.method, request.path) == ("POST", "/v1/streams"):
            return self._create(body)
        if (request.method, request.path) == ("POST", "/v1/statuses"):
            return self._statuses(body["streamIds"])
        if (request.method, request.path) == ("GET", "/v1/streams"):
            return self._list(parse_qs(urlsplit(request.target).query))
        match = re.fullmatch(rf"/v1/streams/{self.zone}\.{HUB}\.([\w-]+)", unquote(request.path))
        if not match or match[1] not in self.streams:
            return json_response({"error": "Not Found"}, "404 Not Found")
        if request.method == "POST":
            self.changes.append(f"disable {match[1]}")
            assert body == {"disabled": True}
            self.disable(match[1])
        return json_response(self.document(match[1]))

    def _create(self, body: dict[str, Any]) -> FakeResponse:
        assert body["publishSecurity"] in ("static", "dynamic")
        if body["hub"] != HUB:
            return json_response({"error": "hub not found"}, "404 Not Found")
        self.changes.append(f"create {body['title']}")
        if body["title"] in self.streams:
            return json_response({"error": "duplicated content"}, "614 exists")
        self.streams[body["title"]] = FakeStream(body["publishKey"])
        return json_response(self.document(body["title"]))

    def _list(self, query: dict[str, list[str]]) -> FakeResponse:
        if query["hub"] != [HUB]:
            return json_response({"error": "hub not found"}, "404 Not Found")
        (title_prefix,) = query["title"]
        items = [self.document(key) for key in self.streams if key.startswith(title_prefix)]
        return json_response({"marker": "", "items": items or None, "end": True})

    def _statuses(self, stream_ids: list[str]) -> FakeResponse:
        prefix = f"{self.zone}.{HUB}."
        keys = [
            stream_id.removeprefix(prefix)
            for stream_id in stream_ids
            if stream_id.startswith(prefix)
        ]
        items = [
            {
                "streamId": prefix + key,
                "addr": "222.73.202.226:2572" if self.is_publishing(key) else "",
                "status": "connected" if self.is_publishing(key) else "disconnected",
            }
            for key in keys
            if key in self.streams
        ]
        return json_response({"items": items or None})

    def document(self, key: str) -> dict[str, Any]:
        stream = self.streams[key]
        hls_host = self.reported_domain or "pili-live-hls.mrpyq.com"
        return {
            "id": self.reported_id or f"{self.zone}.{HUB}.{key}",
            "createdAt": "2017-01-06T10:28:45.799+08:00",
            "updatedAt": "2017-01-06T10:28:45.799+08:00",
            "expireAt": "2017-01-22T10:28:45.799148343+08:00",
            "title": key,
            "hub": self.reported_hub or HUB,
            "disabled": stream.disabled,
            "disabledTill": -1 if stream.disabled else 0,
            "publishKey": stream.publish_key,
            "publishSecurity": self.reported_security or "static",
            "nonce": 0,
            "nropEnable": None,
            "hosts": {
                "publish": {"rtmp": "pili-publish.mrpyq.com"},
                "live": {
                    "rtmp": "pili-live-rtmp.mrpyq.com",
                    "hls": hls_host,
                    "http": hls_host,
                    "hdl": "pili-live-hdl.mrpyq.com",
                    "snapshot": "pili-live-snapshot.mrpyq.com",
                },
                "play": {"rtmp": "pili-live-rtmp.mrpyq.com", "http": hls_host},
                "playback": {"hls": "10004p0.playback1.z1.x", "http": "10004p0.playback1.z1.x"},
            },
            "profiles": None,
        }


class FakePiliV2(FakeStreamProvider):
    def route(self, request: ReceivedRequest) -> FakeResponse:
        if self.reported_hub or not request.path.startswith(f"/v2/hubs/{HUB}/"):
            return json_response({"error": "hub not found"}, "612 hub not found")
        body = json.loads(request.body) if request.body else {}
        path = request.path.removeprefix(f"/v2/hubs/{HUB}")
        if (request.method, path) == ("POST", "/streams"):
            self.changes.append(f"create {body['key']}")
            if body["key"] in self.streams:
                return json_response(
                    {"error": "stream already exists"}, "614 stream already exists"
                )
            self.streams[body["key"]] = FakeStream()
            return json_response({})
        if (request.method, path) == ("POST", "/livestreams"):
            assert len(body["items"]) <= 100
            return json_response({"items": self._live_streams(body["items"])})
        match = re.fullmatch(r"/streams/([\w=-]+)(/disabled)?", path)
        key = base64.urlsafe_b64decode(match[1]).decode() if match else ""
        if key not in self.streams:
            return STREAM_NOT_FOUND
        if request.method == "POST":
            self.changes.append(f"disable {key}")
            assert body == {"disabledTill": -1}
            self.disable(key)
            return FakeResponse()
        return json_response(self._stream_info(key))

    def _live_streams(self, keys: list[str]) -> list[dict[str, Any]]:
        return [
            {"key": key, "startAt": 1483669725, "clientIP": "1.2.3.4:5", "bps": 1, "fps": {}}
            for key in keys
            if self.is_publishing(key)
        ]

    def _stream_info(self, key: str) -> dict[str, Any]:
        return {
            "createdAt": 1483669725,
            "updatedAt": 1483669725,
            "expireAt": 1484965725,
            "disabledTill": -1 if self.streams[key].disabled else 0,
            "converts": [],
            "watermark": False,
            "publishSecurity": "",
            "publishKey": "",
            "nropEnable": False,
            **self.reported_info,
        }


class FakeNginxRtmp(FakeStreamProvider):
    """The status and control pages of nginx's RTMP module.

    A stream exists only while a publisher is connected.
    """

    def start_publishing(self, key: str) -> None:
        self.streams[key] = FakeStream(is_publishing=True)

    def stop_publishing(self, key: str) -> None:
        self.streams.pop(key, None)

    def respond(self, request: ReceivedRequest) -> FakeResponse:
        if request.path == "/stat":
            return FakeResponse("200 OK", self.stat().encode(), "text/xml")
        if request.path == "/control/drop/publisher":
            query = parse_qs(urlsplit(request.target).query)
            assert query["app"] == [HUB]
            (key,) = query["name"]
            self.changes.append(f"disable {key}")
            return FakeResponse(
                "200 OK", b"1" if self.streams.pop(key, None) else b"0", "text/plain"
            )
        return FakeResponse("404 Not Found", b"<html></html>", "text/html")

    def stat(self) -> str:
        streams = "".join(
            f"<stream><name>{key}</name><client><id>8</id></client>"
            f"<client><id>7</id><publishing/>{'<active/>' * stream.is_publishing}</client>"
            "<publishing/></stream>"
            for key, stream in self.streams.items()
        )
        other_application = (
            "<application><name>other</name><live><stream><name>abc</name></stream></live>"
        )
        return (
            '<?xml version="1.0" encoding="utf-8" ?><rtmp><server>'
            f"{other_application}</application><application><name>{HUB}</name><live>{streams}"
            "<nclients>0</nclients></live></application></server></rtmp>"
        )
