"""Stream gateway for Qiniu's Pili v1; the API document specifies its stream JSON."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self
from urllib.parse import urlencode

from pydantic import BaseModel, Field, ValidationError

from livebackend.config.settings import Settings
from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.qiniu import QiniuAuth, QiniuClient
from livebackend.gateways.streams.pili import PiliClient, listed_items, quote_path_segment
from livebackend.gateways.streams.protocol import (
    NoSuchStream,
    Stream,
    StreamFailed,
    StreamReference,
)
from livebackend.gateways.streams.publish_urls import PUBLISH_SECURITY_KINDS, PublishUrlSigner
from livebackend.gateways.streams.stream_documents import default_stream_id, play_urls

# PostgreSQL cannot store a NUL character in JSON. Quotes and backslashes, which JSON escapes, could
# make the stored JSON longer than its column.
_Text = Annotated[str, Field(max_length=255, pattern=r'^[^\x00-\x1f\x7f"\\]*$')]
_SecurityKind = Annotated[str, Field(pattern=f"^({'|'.join(PUBLISH_SECURITY_KINDS)})$")]


class _Publish(BaseModel):
    rtmp: Annotated[_Text, Field(min_length=1)]


class _Live(BaseModel):
    rtmp: _Text = ""
    hls: _Text = ""
    http: _Text = ""
    hdl: _Text = ""
    snapshot: _Text = ""


class _Play(BaseModel):
    rtmp: _Text = ""
    http: _Text = ""


class _Playback(BaseModel):
    hls: _Text = ""
    http: _Text = ""


class _Hosts(BaseModel):
    """The hosts of a hub; older hubs lack some of them."""

    publish: _Publish
    live: _Live = _Live()
    play: _Play = _Play()
    playback: _Playback = _Playback()


class _StreamObject(BaseModel):
    """Pili's stream object. Unknown keys are ignored; keys missing in older hubs have defaults.

    Source: Pili API v1, the stream object.
    """

    id: _Text
    hub: _Text
    title: _Text
    publishKey: _Text  # noqa: N815  # named by Pili, like the others below
    publishSecurity: _SecurityKind  # noqa: N815
    nonce: int = 0
    disabled: bool = False
    disabledTill: int = 0  # noqa: N815
    nropEnable: bool | None = None  # noqa: N815
    createdAt: _Text  # noqa: N815
    updatedAt: _Text  # noqa: N815
    expireAt: _Text = ""  # noqa: N815
    hosts: _Hosts


class PiliV1:
    """Stream gateway for Pili v1, whose JSON has a publish host and `publishSecurity`."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create the gateway. Raises ValueError for a missing setting."""
        settings.require("qiniu.access_key", "qiniu.secret_key")
        qiniu_keys = {
            "access_key": settings.qiniu_access_key,
            "secret_key": settings.qiniu_secret_key.get_secret_value(),
        }
        url_signer = PublishUrlSigner(
            time.time, settings.streams_publish_url_s, QiniuAuth(**qiniu_keys)
        )
        return cls(
            PiliClient(QiniuClient(settings.streams_api_url, **qiniu_keys), "/v1"),
            hub=settings.streams_hub,
            security=settings.streams_publish_security,
            url_signer=url_signer,
        )

    def __init__(
        self, pili: PiliClient, *, hub: str, security: str, url_signer: PublishUrlSigner
    ) -> None:
        self._pili = pili
        self._hub = hub
        # Pili v1 accepts only "dynamic" and "static". The setting of the hub at Pili can override
        # this value.
        self._security = security if security == "dynamic" else "static"
        self._url_signer = url_signer

    def create(self, key: str, publish_key: str) -> Stream:
        body = {
            "hub": self._hub,
            "title": key,
            "publishKey": publish_key,
            "publishSecurity": self._security,
        }
        document = self._document(key, self._pili.call("POST", "/streams", body))
        return Stream(document, play_urls(document))

    def exists(self, stream: StreamReference) -> bool:
        try:
            response = self._pili.call("GET", _path(self._id(stream)))
        except NoSuchStream:
            return False
        self._document(stream.key, response)
        return True

    def disable(self, stream: StreamReference) -> None:
        deadline = Deadline()
        try:
            self._disable(stream.key, self._id(stream), deadline)
        except NoSuchStream:
            # The zone of an unknown id is a guess, so the stream can have another id. Only the list
            # of the hub's streams shows that the stream does not exist.
            for listed_id in self._find_ids(stream.key, deadline):
                self._disable(stream.key, listed_id, deadline)

    def live_publishers(self, streams: Sequence[StreamReference]) -> Mapping[str, str | None]:
        key_by_id = {self._id(stream): stream.key for stream in streams}
        response = self._pili.call("POST", "/statuses", {"streamIds": list(key_by_id)})
        live_ids = [
            entry.get("streamId")
            for entry in listed_items(response)
            if entry.get("status") == "connected"
        ]
        return {key: None for stream_id, key in key_by_id.items() if stream_id in live_ids}

    def publish_url(self, document: Mapping[str, Any]) -> str:
        return self._url_signer.url(document)

    def _id(self, stream: StreamReference) -> str:
        return stream.id or default_stream_id(self._hub, stream.key)

    def _disable(self, key: str, stream_id: str, deadline: Deadline) -> None:
        body = {"disabled": True}
        response = self._pili.call("POST", _path(stream_id), body, deadline=deadline)
        if not self._document(key, response)["disabled"]:
            raise StreamFailed(f"Pili did not disable the stream {key}")

    def _find_ids(self, key: str, deadline: Deadline) -> list[str]:
        """Return the ids of the hub's streams with this title, at most one in each zone."""
        query = urlencode({"hub": self._hub, "title": key})  # `title` is a prefix
        response = self._pili.call("GET", f"/streams?{query}", deadline=deadline)
        return [
            self._document(key, item)["id"]
            for item in listed_items(response)
            if item.get("title") == key
        ]

    def _document(self, key: str, response: Any) -> dict[str, Any]:
        try:
            document = _StreamObject.model_validate(response, strict=True).model_dump()
        except ValidationError as error:
            # The error omits pydantic's message, which quotes the response and so the secret
            # publish key.
            invalid_field_count = error.error_count()
            raise StreamFailed(
                f"Pili returned an invalid stream: {invalid_field_count} invalid fields"
            ) from None
        # The id is `<zone>.<hub>.<title>`.
        is_valid_id = re.fullmatch(rf"[\w-]+\.{re.escape(f'{self._hub}.{key}')}", document["id"])
        if not is_valid_id or (document["hub"], document["title"]) != (self._hub, key):
            raise StreamFailed(f"Pili returned another stream than {key}")
        live, play = document["hosts"]["live"], document["hosts"]["play"]
        live["hls"] = live["http"] = live["hls"] or live["http"]
        play["rtmp"], play["http"] = play["rtmp"] or live["rtmp"], play["http"] or live["http"]
        return document


def _path(stream_id: str) -> str:
    return f"/streams/{quote_path_segment(stream_id)}"
