"""Authorization of publishers and viewers at the operator's media server."""

import hmac
import logging

from sqlalchemy import bindparam, func, select, update

from livebackend import models
from livebackend.database.engine import Database
from livebackend.gateways.streams import StreamFailed, StreamGateway, StreamReference
from livebackend.services.stream_monitor import PUBLISHER_GRACE_PERIOD

log = logging.getLogger(__name__)

_FIND_OPEN_ROOM = select(
    models.Room.id,
    models.Room.publish_key,
    models.Room.publisher,
    (models.Room.published_at < func.now() - PUBLISHER_GRACE_PERIOD).label("grace_period_over"),
).where(models.Room.stream_key == bindparam("key"), models.room_is_open)
_SET_PUBLISHER = (
    update(models.Room)
    .where(
        models.Room.id == bindparam("room_id"),
        models.room_is_open,
        models.Room.publisher.is_not_distinct_from(bindparam("old")),
    )
    .values(
        publisher=bindparam("new"),
        published_at=func.now(),
        stream_seen_at=func.now(),
        offline_since=None,
    )
    .returning(models.Room.id)
)
_CLEAR_PUBLISHER = (
    update(models.Room)
    .where(
        models.Room.stream_key == bindparam("key"),
        models.room_is_open,
        models.Room.publisher == bindparam("old"),
    )
    .values(publisher=None, published_at=None, offline_since=func.now())
    .returning(models.Room.id)
)


class PublishAuthorization:
    """Authorizes publishers and viewers of the operator's media server.

    `hub` is the media server's application for streams. The media server authenticates with
    `secret`; if `secret` is empty, all hook requests are rejected.
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
        """Whether a secret of the media server is configured."""
        return bool(self._secret)

    def is_media_server(self, secret: str) -> bool:
        """Return whether `secret` is the secret of the media server."""
        return self.is_configured and hmac.compare_digest(secret.encode(), self._secret)

    def authorize_publish(
        self, *, hub: str, stream_key: str, publish_key: str, publisher: str
    ) -> bool:
        """Authorize a publisher; return False without the publish key of an open room.

        Also returns False while another publisher of the room is online.
        """
        if hub != self._hub:
            return False
        room = self._database.execute_one(_FIND_OPEN_ROOM, key=stream_key)
        if room is None or not hmac.compare_digest(room.publish_key.encode(), publish_key.encode()):
            return False
        if room.publisher is not None and not (
            room.grace_period_over and self._disconnect_silent_publisher(stream_key)
        ):
            return False
        values = {"room_id": room.id, "old": room.publisher, "new": publisher}
        return self._database.execute_one(_SET_PUBLISHER, **values) is not None

    def publisher_left(self, *, stream_key: str, publisher: str) -> None:
        """Record that a publisher disconnected; ignore an unauthorized publisher."""
        self._database.execute_one(_CLEAR_PUBLISHER, key=stream_key, old=publisher)

    def may_watch(self, stream_key: str) -> bool:
        """Return whether viewers can watch the stream: it must have an open room."""
        return self._database.execute_one(_FIND_OPEN_ROOM, key=stream_key) is not None

    def _disconnect_silent_publisher(self, stream_key: str) -> bool:
        """Disconnect a publisher that sends no data.

        Returns False if a publisher is live, or if the media server fails.
        """
        stream = StreamReference(stream_key)
        try:
            if self._gateway.live_publishers([stream]):
                return False
            self._gateway.disable(stream)
        except StreamFailed as error:
            log.warning(
                "stream %s: its publisher cannot be checked or disconnected: %s", stream_key, error
            )
            return False
        return True
