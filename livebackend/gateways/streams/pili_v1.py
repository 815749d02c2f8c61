"""Stream gateway for Qiniu's Pili v1; the API document specifies its stream JSON."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError

from livebackend.config.settings import Settings
from livebackend.gateways.qiniu import QiniuAuth, QiniuClient
from livebackend.gateways.streams.pili import PiliClient, listed_items, quote_path_segment
from livebackend.gateways.streams.protocol import NoSuchStream, Stream, StreamFailed
from livebackend.gateways.streams.publish_urls import PUBLISH_SECURITY_KINDS, PublishUrlSigner
from livebackend.gateways.streams.stream_documents import play_urls, stream_id

_Text = Annotated[str, Field(max_length=255)]
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

    def exists(self, key: str) -> bool:
        try:
            self._document(key, self._pili.call("GET", self._path(key)))
        except NoSuchStream:
            return False
        return True

    def disable(self, key: str) -> None:
        try:
            response = self._pili.call("POST", self._path(key), {"disabled": True})
        except NoSuchStream:
            return
        if not self._document(key, response)["disabled"]:
            raise StreamFailed(f"Pili did not disable the stream {key}")

    def live_publishers(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        key_by_stream_id = {stream_id(self._hub, key): key for key in keys}
        response = self._pili.call("POST", "/statuses", {"streamIds": list(key_by_stream_id)})
        live_entries = [
            entry for entry in listed_items(response) if entry.get("status") == "connected"
        ]
        return {
            key_by_stream_id[entry["streamId"]]: None
            for entry in live_entries
            if entry.get("streamId") in key_by_stream_id
        }

    def publish_url(self, document: Mapping[str, Any]) -> str:
        return self._url_signer.url(document)

    def _path(self, key: str) -> str:
        return f"/streams/{quote_path_segment(stream_id(self._hub, key))}"

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
        if (document["hub"], document["title"]) != (self._hub, key):
            raise StreamFailed(f"Pili returned another stream than {key}")
        live, play = document["hosts"]["live"], document["hosts"]["play"]
        live["hls"] = live["http"] = live["hls"] or live["http"]
        play["rtmp"], play["http"] = play["rtmp"] or live["rtmp"], play["http"] or live["http"]
        return document
