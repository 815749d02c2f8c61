"""Streams of Qiniu's Pili, version 2: it tells no hosts, so the hub's domains are settings."""

import base64
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError

from livebackend.config.settings import Settings
from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.qiniu import Qiniu, QiniuAuth
from livebackend.gateways.streams.documents import Hosts, Times, new_document, play_urls
from livebackend.gateways.streams.pili import Pili, escaped, items
from livebackend.gateways.streams.protocol import (
    NoSuchStream,
    Stream,
    StreamExists,
    StreamFailed,
)
from livebackend.gateways.streams.publishing import Publishing

_FOREVER = -1
_LAST_SECOND = 253_402_300_799  # of the year 9999


class _Info(BaseModel):
    """What version 2 tells of a stream, as far as it is of use. Times are seconds since 1970."""

    createdAt: int = Field(ge=0, le=_LAST_SECOND)  # noqa: N815  # Pili's name, as those that follow
    updatedAt: int = Field(ge=0, le=_LAST_SECOND)  # noqa: N815
    expireAt: int = Field(ge=0, le=_LAST_SECOND)  # noqa: N815
    disabledTill: int  # noqa: N815

    def times(self) -> Times:
        moments = (self.createdAt, self.updatedAt, self.expireAt)
        return Times(*(datetime.fromtimestamp(each, UTC) for each in moments))


class PiliV2:
    """Qiniu's Pili, version 2. The JSON that the app reads is made here, with version 1's keys."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raises ValueError for a setting that is missing."""
        settings.require(
            *("qiniu.access_key", "qiniu.secret_key"),
            *("streams.publish_host", "streams.rtmp_host", "streams.hls_host"),
        )
        keys = {
            "access_key": settings.qiniu_access_key,
            "secret_key": settings.qiniu_secret_key.get_secret_value(),
        }
        publishing = Publishing(time.time, settings.streams_publish_url_s, QiniuAuth(**keys))
        return cls(
            Pili(Qiniu(settings.streams_url, **keys), f"/v2/hubs/{escaped(settings.streams_hub)}"),
            hub=settings.streams_hub,
            security=settings.streams_publish_security,
            hosts=Hosts.from_settings(settings),
            publishing=publishing,
        )

    def __init__(
        self, pili: Pili, *, hub: str, security: str, hosts: Hosts, publishing: Publishing
    ) -> None:
        self._pili = pili
        self._hub = hub
        self._security = security
        self._hosts = hosts
        self._publishing = publishing

    def create(self, key: str, publish_key: str) -> Stream:
        deadline = Deadline()
        self._pili.call("POST", "/streams", {"key": key}, deadline=deadline)
        # It says nothing to that but yes. When the stream ends by itself is told only so.
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

    def knows(self, key: str) -> bool:
        try:
            self._info(key, Deadline())
        except NoSuchStream:
            return False
        return True

    def disable(self, key: str) -> None:
        deadline = Deadline()
        try:
            self._disable(key, deadline)
        except NoSuchStream:
            # Whoever has a publish URL that is still good makes the stream by publishing: only
            # one that is there can be closed to him.
            with suppress(StreamExists):
                self._pili.call("POST", "/streams", {"key": key}, deadline=deadline)
            self._disable(key, deadline)

    def on_air(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        answer = self._pili.call("POST", "/livestreams", {"items": list(keys)})
        found = {each.get("key") for each in items(answer)}
        return {key: None for key in keys if key in found}

    def publish_url(self, document: Mapping[str, Any]) -> str:
        return self._publishing.url(document)

    def _info(self, key: str, deadline: Deadline) -> _Info:
        answer = self._pili.call("GET", _path(key), deadline=deadline)
        try:
            return _Info.model_validate(answer, strict=True)
        except ValidationError as error:
            raise StreamFailed(f"the answer is no stream: {error.error_count()} faults") from None

    def _disable(self, key: str, deadline: Deadline) -> None:
        body = {"disabledTill": _FOREVER}
        self._pili.call("POST", f"{_path(key)}/disabled", body, deadline=deadline)


def _path(key: str) -> str:
    return f"/streams/{base64.urlsafe_b64encode(key.encode()).decode()}"
