"""Publish authorization: who may publish and watch a stream of the operator's media server."""

import hmac
import logging

from sqlalchemy import bindparam, func, select, update

from livebackend import models
from livebackend.database.engine import Database
from livebackend.gateways.streams import StreamFailed, StreamGateway
from livebackend.services.stream_monitor import SETTLED_AFTER

log = logging.getLogger(__name__)

_DOOR = select(
    models.Room.id,
    models.Room.publish_key,
    models.Room.publisher,
    (models.Room.published_at < func.now() - SETTLED_AFTER).label("settled"),
).where(models.Room.stream_key == bindparam("key"), models.room_is_open)
_LET_IN = (
    update(models.Room)
    .where(
        models.Room.id == bindparam("room_id"),
        models.room_is_open,
        models.Room.publisher.is_not_distinct_from(bindparam("before")),
    )
    .values(
        publisher=bindparam("new"),
        published_at=func.now(),
        stream_seen_at=func.now(),
        offline_since=None,
    )
    .returning(models.Room.id)
)
_GONE = (
    update(models.Room)
    .where(
        models.Room.stream_key == bindparam("key"),
        models.room_is_open,
        models.Room.publisher == bindparam("who"),
    )
    .values(publisher=None, published_at=None, offline_since=func.now())
    .returning(models.Room.id)
)


class PublishAuthorization:
    """Decides who may publish and watch streams of the operator's media server.

    `hub` is the application of the media server that takes streams; `secret` is what it sends to
    prove its identity. Without a secret, every hook request is refused.
    """

    def __init__(
        self, database: Database, gateway: StreamGateway, *, hub: str, secret: str
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._hub = hub
        self._secret = secret.encode()

    @property
    def is_configured(self) -> bool:
        """Whether there is a media server to answer."""
        return bool(self._secret)

    def is_media_server(self, secret: str) -> bool:
        """Return whether this is the secret of the media server."""
        return self.is_configured and hmac.compare_digest(secret.encode(), self._secret)

    def admit(self, *, hub: str, stream_key: str, publish_key: str, publisher: str) -> bool:
        """Whether a publisher is let in: with the key of an open room where nobody publishes.

        Whoever was let in before and is on air still, stays.
        """
        if hub != self._hub:
            return False
        room = self._database.execute_one(_DOOR, key=stream_key)
        if room is None or not hmac.compare_digest(room.publish_key.encode(), publish_key.encode()):
            return False
        if room.publisher is not None and not (room.settled and self._is_free(stream_key)):
            return False
        values = {"room_id": room.id, "before": room.publisher, "new": publisher}
        return self._database.execute_one(_LET_IN, **values) is not None

    def gone(self, *, stream_key: str, publisher: str) -> None:
        """A publisher has left; another's leaving, who was never let in, changes nothing."""
        self._database.execute_one(_GONE, key=stream_key, who=publisher)

    def is_open(self, stream_key: str) -> bool:
        """Whether somebody may watch the stream."""
        return self._database.execute_one(_DOOR, key=stream_key) is not None

    def _is_free(self, stream_key: str) -> bool:
        """Whether another may publish: a publisher who sends nothing any more is cut off."""
        try:
            if self._gateway.on_air([stream_key]):
                return False
            self._gateway.disable(stream_key)
        except StreamFailed as error:
            log.warning("whether %s is on air is not known: %s", stream_key, error)
            return False
        return True
