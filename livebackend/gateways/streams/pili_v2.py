"""Stream gateway for Qiniu's Pili v2, whose domains come from the settings."""

import base64
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from livebackend.config.settings import Settings
from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.qiniu import QiniuAuth, QiniuClient
from livebackend.gateways.streams.pili import PiliClient, listed_items, quote_path_segment
from livebackend.gateways.streams.protocol import (
    NoSuchStream,
    Stream,
    StreamExists,
    StreamFailed,
    StreamReference,
)
from livebackend.gateways.streams.publish_urls import PublishUrlSigner
from livebackend.gateways.streams.stream_documents import (
    StreamHosts,
    StreamTimes,
    new_document,
    play_urls,
)

_DISABLED_FOREVER = -1
# The publish securities that do not use the publish key of a stream: Pili v2 has no request that
# would set it.
_SUPPORTED_SECURITY = ("none", "expiry_sk")
# The end of the year 9999 in China. Later times have no date.
_MAX_TIMESTAMP = 253_402_271_999


class _StreamInfo(BaseModel):
    """The fields of a Pili stream that PiliV2 needs. Times are in seconds since 1970."""

    createdAt: int = Field(ge=0)  # noqa: N815  # named by Pili, like the others below
    updatedAt: int = Field(ge=0)  # noqa: N815
    expireAt: int = Field(ge=0)  # noqa: N815
    disabledTill: int  # noqa: N815

    def times(self) -> StreamTimes:
        timestamps_s = (self.createdAt, self.updatedAt, self.expireAt)
        return StreamTimes(
            *(datetime.fromtimestamp(min(time_s, _MAX_TIMESTAMP), UTC) for time_s in timestamps_s)
        )


class PiliV2:
    """Stream gateway for Pili v2. Builds the stream's JSON with the keys of Pili v1."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create the gateway. Raises ValueError for a missing or unsupported setting."""
        settings.require(
            *("qiniu.access_key", "qiniu.secret_key"),
            *("streams.publish_host", "streams.rtmp_host", "streams.hls_host"),
        )
        if settings.streams_publish_security not in _SUPPORTED_SECURITY:
            raise ValueError(
                f"streams.publish_security: {settings.streams_publish_security} is not supported,"
                " because Pili v2 does not get the publish keys of streams; set the hub and this"
                f" setting to {' or '.join(_SUPPORTED_SECURITY)}"
            )
        qiniu_keys = {
            "access_key": settings.qiniu_access_key,
            "secret_key": settings.qiniu_secret_key.get_secret_value(),
        }
        url_signer = PublishUrlSigner(
            time.time, settings.streams_publish_url_s, QiniuAuth(**qiniu_keys)
        )
        return cls(
            PiliClient(
                QiniuClient(settings.streams_api_url, **qiniu_keys),
                f"/v2/hubs/{quote_path_segment(settings.streams_hub)}",
            ),
            hub=settings.streams_hub,
            security=settings.streams_publish_security,
            hosts=StreamHosts.from_settings(settings),
            url_signer=url_signer,
        )

    def __init__(
        self,
        pili: PiliClient,
        *,
        hub: str,
        security: str,
        hosts: StreamHosts,
        url_signer: PublishUrlSigner,
    ) -> None:
        self._pili = pili
        self._hub = hub
        self._security = security
        self._hosts = hosts
        self._url_signer = url_signer

    def create(self, key: str, publish_key: str) -> Stream:
        deadline = Deadline()
        self._pili.call("POST", "/streams", {"key": key}, deadline=deadline)
        # Pili's response to the creation is empty, so a second request reads the stream's times.
        info = self._info(key, deadline)
        document = new_document(
            hub=self._hub,
            key=key,
            publish_key=publish_key,
            security=self._security,
            hosts=self._hosts,
            times=info.times(),
        )
        return Stream(document, play_urls(document))

    def exists(self, stream: StreamReference) -> bool:
        try:
            self._info(stream.key, Deadline())
        except NoSuchStream:
            return False
        return True

    def disable(self, stream: StreamReference) -> None:
        deadline = Deadline()
        try:
            self._disable(stream.key, deadline)
        except NoSuchStream:
            # A missing stream is created and then disabled. Otherwise, a host with a publish URL
            # that is still valid could create an enabled stream.
            with suppress(StreamExists):
                self._pili.call("POST", "/streams", {"key": stream.key}, deadline=deadline)
            self._disable(stream.key, deadline)

    def live_publishers(self, streams: Sequence[StreamReference]) -> Mapping[str, str | None]:
        keys = [stream.key for stream in streams]
        response = self._pili.call("POST", "/livestreams", {"items": keys})
        live_keys = [entry.get("key") for entry in listed_items(response)]
        return {key: None for key in keys if key in live_keys}

    def publish_url(self, document: Mapping[str, Any]) -> str:
        return self._url_signer.url(document)

    def _info(self, key: str, deadline: Deadline) -> _StreamInfo:
        response = self._pili.call("GET", _path(key), deadline=deadline)
        try:
            return _StreamInfo.model_validate(response, strict=True)
        except ValidationError as error:
            invalid_field_count = error.error_count()
            raise StreamFailed(
                f"Pili returned an invalid stream: {invalid_field_count} invalid fields"
            ) from None

    def _disable(self, key: str, deadline: Deadline) -> None:
        body = {"disabledTill": _DISABLED_FOREVER}
        self._pili.call("POST", f"{_path(key)}/disabled", body, deadline=deadline)


def _path(key: str) -> str:
    return f"/streams/{base64.urlsafe_b64encode(key.encode()).decode()}"
