"""Monitoring of streams: closes rooms without a publisher, disables their streams.

A host can disconnect without notice. Callbacks of the provider, heartbeats of the client and
housekeeping each cause a query to the provider; only the provider's response changes a room.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    func,
    literal_column,
    null,
    select,
    text,
    update,
)

from livebackend import models
from livebackend.database.engine import Database
from livebackend.events.declarations import EventType
from livebackend.events.outbox import Outbox
from livebackend.gateways.streams import (
    ProviderUnavailable,
    StreamFailed,
    StreamGateway,
    StreamReference,
    stream_reference,
)

log = logging.getLogger(__name__)

# A call to the provider takes at most 4 s. So a room that has been `opening` for longer than this
# was left in this state by a crash.
OPENING_TIMEOUT_S = 5
# The minimum interval between two queries to the provider about one room.
_QUERY_INTERVAL = timedelta(seconds=2)
# A newly authorized publisher can be missing from the media server's list for up to this time.
PUBLISHER_GRACE_PERIOD = timedelta(seconds=5)
# The maximum number of streams in one call to a provider.
_BATCH_SIZE = 100

# A closed room needs only the key and the id of its stream, to disable the stream. The other data
# of the stream, such as the publish key, is deleted.
_ONLY_THE_ID: ColumnElement[str] = literal_column(
    "CASE WHEN stream IS NOT NULL THEN json_build_object('id', stream::json -> 'id')::text END"
)
CLOSE_ROOMS = (
    update(models.Room)
    .values(
        state="closed",
        closed_at=func.now(),
        close_reason=bindparam("reason"),
        publish_key="",
        stream=_ONLY_THE_ID,
        play_urls=null(),
        publisher=None,
        published_at=None,
    )
    .returning(
        models.Room.id,
        models.Room.stream_key,
        models.Room.stream,
        models.Room.account_id,
        models.Room.stream_seen_at,
    )
)
CLOSE_ABANDONED_ROOMS = CLOSE_ROOMS.where(
    models.Room.state == "opening",
    models.Room.started_at < func.now() - timedelta(seconds=OPENING_TIMEOUT_S),
)
_NEXT_OPEN_ROOMS = (
    select(models.Room.id, models.Room.stream_key, models.Room.stream)
    .where(models.room_is_open, models.Room.id > bindparam("after"))
    .order_by(models.Room.id)
    .limit(_BATCH_SIZE)
)
_SET_LIVE = text(
    """
    UPDATE rooms SET stream_seen_at = now(), offline_since = NULL, publisher = live.publisher,
        published_at = CASE WHEN live.publisher IS NOT NULL THEN
            CASE WHEN rooms.publisher = live.publisher THEN published_at ELSE now() END
        END
    FROM unnest(CAST(:ids AS bigint[]), CAST(:publishers AS varchar[])) AS live (id, publisher)
    WHERE rooms.id = live.id AND state = 'open'
    """
)
_is_in_batch = models.Room.id.in_(bindparam("ids", expanding=True))
_SET_OFFLINE = (
    update(models.Room)
    .where(
        _is_in_batch,
        models.room_is_open,
        func.coalesce(models.Room.published_at < func.now() - PUBLISHER_GRACE_PERIOD, True),
    )
    .values(
        offline_since=func.coalesce(models.Room.offline_since, func.now()),
        publisher=None,
        published_at=None,
    )
)
_CLOSE_OFFLINE_ROOMS = CLOSE_ROOMS.where(
    _is_in_batch,
    models.room_is_open,
    models.Room.offline_since <= func.now() - bindparam("timeout"),
)
_BEGIN_CHECK = (
    update(models.Room)
    .where(
        models.Room.stream_key == bindparam("key"),
        models.room_is_open,
        func.coalesce(models.Room.provider_checked_at < func.now() - _QUERY_INTERVAL, True),
    )
    .values(provider_checked_at=func.now())
    .returning(models.Room.id, models.Room.stream_key, models.Room.stream)
)
_STREAMS_TO_DISABLE = (
    select(models.Room.id, models.Room.stream_key, models.Room.stream)
    .where(
        models.Room.state == "closed",
        models.Room.disabled_at.is_(None),
        models.Room.disable_retry_at <= func.now(),
    )
    .order_by(models.Room.disable_retry_at)
    .limit(_BATCH_SIZE)
)
_is_this_room = models.Room.id == bindparam("room_id")
_SET_DISABLED = update(models.Room).where(_is_this_room).values(disabled_at=func.now())
# The next attempt to disable a stream is after 10 s, 20 s, 40 s, … up to 640 s.
_POSTPONE_DISABLE = text(
    """
    UPDATE rooms SET disable_attempts = least(disable_attempts + 1, 1000),
        disable_retry_at = now() + interval '10 seconds' * power(2, least(disable_attempts, 6))
    WHERE id = :room_id
    """
)


class RoomStream(NamedTuple):
    """The id of a room, and its stream: the key, and the JSON if it was stored."""

    id: int
    stream_key: str
    stream: str | None

    @property
    def reference(self) -> StreamReference:
        return stream_reference(self.stream_key, self.stream)


class StreamCheckResult(NamedTuple):
    """Counts of a `check_rooms` call: checked rooms, closed rooms, disabled streams."""

    checked: int
    closed: int
    disabled: int
    # Whether a call to the provider failed. The next `check_rooms` repeats the call.
    failed: bool


class StreamMonitor:
    """Monitors streams; closes a room that had no publisher for `offline_timeout`."""

    def __init__(
        self,
        database: Database,
        gateway: StreamGateway,
        outbox: Outbox,
        *,
        offline_timeout: timedelta,
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._outbox = outbox
        self._offline_timeout = offline_timeout

    def disable(self, room: RoomStream) -> StreamFailed | None:
        """Disable the stream of a closed room.

        Returns the error if the provider fails; housekeeping then disables the stream later.
        """
        try:
            self._gateway.disable(room.reference)
        except StreamFailed as error:
            log.error(
                "stream %s: disabling failed, housekeeping will retry it: %s",
                room.stream_key,
                error,
            )
            self._database.execute_one(_POSTPONE_DISABLE, room_id=room.id)
            return error
        self._database.execute_one(_SET_DISABLED, room_id=room.id)
        return None

    def close_rooms(
        self, connection: Connection, statement: Any, *, reason: str, **values: Any
    ) -> list[RoomStream]:
        """Close rooms in the caller's transaction; return the rooms that were closed.

        `statement` is CLOSE_ROOMS with a condition. Appends a live event for each room that was
        open. The caller must then disable the streams.
        """
        rows = connection.execute(statement, {"reason": reason, **values}).all()
        for row in rows:
            log.info(
                "room %s: closed (%s), stream last seen %s", row.id, reason, row.stream_seen_at
            )
            if row.stream is not None:  # otherwise the room was never open
                self._outbox.append(
                    connection,
                    EventType.FRIEND_LEFT,
                    account_id=row.account_id,
                    subject_id=row.id,
                )
        return [RoomStream(row.id, row.stream_key, row.stream) for row in rows]

    def refresh_status(self, stream_key: str) -> None:
        """Query the provider about one open room, at most every 2 s, and update the room.

        Does nothing for an unknown stream, or if the provider fails.
        """
        room = self._database.execute_one(_BEGIN_CHECK, key=stream_key)
        if room is None:
            return
        try:
            closed_rooms = self._check_batch([RoomStream(*room)])
        except StreamFailed as error:
            log.warning("stream %s: query of its publisher failed: %s", stream_key, error)
            return
        for closed_room in closed_rooms:
            self.disable(closed_room)

    def check_rooms(self, should_continue: Callable[[], bool] = lambda: True) -> StreamCheckResult:
        """Check all open rooms for publishers, and disable the streams of closed rooms.

        `should_continue` is called before each call to the provider: the check stops if the
        function returns False. Also closes rooms that a crash left in the state `opening`.
        """
        abandoned_rooms = self._database.run(
            lambda connection: self.close_rooms(
                connection, CLOSE_ABANDONED_ROOMS, reason="abandoned"
            )
        )
        checked_count, offline_count, has_query_failed = self._check_open_rooms(should_continue)
        disabled_count, has_disable_failed = self._disable_due_streams(should_continue)
        closed_count = len(abandoned_rooms) + offline_count
        return StreamCheckResult(
            checked_count,
            closed_count,
            disabled_count,
            failed=has_query_failed or has_disable_failed,
        )

    def _check_open_rooms(self, should_continue: Callable[[], bool]) -> tuple[int, int, bool]:
        """Check all open rooms.

        Returns the numbers of checked and closed rooms, and whether the provider failed.
        """
        checked_count = closed_count = after_id = 0
        while batch := self._database.run(partial(_next_batch, after_id=after_id)):
            if not should_continue():
                break
            try:
                closed_count += len(self._check_batch(batch))
            except StreamFailed as error:
                log.error("stream monitor: query of live publishers failed: %s", error)
                return checked_count, closed_count, True
            checked_count += len(batch)
            after_id = batch[-1].id
        return checked_count, closed_count, False

    def _check_batch(self, batch: Sequence[RoomStream]) -> list[RoomStream]:
        """Query the provider about rooms, update the rooms, and return the closed rooms."""
        live_publishers = self._gateway.live_publishers([room.reference for room in batch])
        return self._database.run(
            partial(self._update_rooms, batch=batch, live_publishers=live_publishers)
        )

    def _update_rooms(
        self,
        connection: Connection,
        *,
        batch: Sequence[RoomStream],
        live_publishers: Mapping[str, str | None],
    ) -> list[RoomStream]:
        online_rooms = [room for room in batch if room.stream_key in live_publishers]
        offline_ids = [room.id for room in batch if room.stream_key not in live_publishers]
        if online_rooms:
            publishers = [live_publishers[room.stream_key] for room in online_rooms]
            connection.execute(
                _SET_LIVE, {"ids": [room.id for room in online_rooms], "publishers": publishers}
            )
        if not offline_ids:
            return []
        connection.execute(_SET_OFFLINE, {"ids": offline_ids})
        return self.close_rooms(
            connection,
            _CLOSE_OFFLINE_ROOMS,
            reason="offline",
            ids=offline_ids,
            timeout=self._offline_timeout,
        )

    def _disable_due_streams(self, should_continue: Callable[[], bool]) -> tuple[int, bool]:
        rooms_to_disable = self._database.run(
            lambda connection: [RoomStream(*row) for row in connection.execute(_STREAMS_TO_DISABLE)]
        )
        disabled_count, has_failed = 0, False
        for room in rooms_to_disable:
            if not should_continue():
                break
            error = self.disable(room)
            disabled_count += error is None
            has_failed |= error is not None
            if isinstance(error, ProviderUnavailable):
                break  # the next call to the provider would fail too
        return disabled_count, has_failed


def _next_batch(connection: Connection, *, after_id: int) -> list[RoomStream]:
    return [RoomStream(*row) for row in connection.execute(_NEXT_OPEN_ROOMS, {"after": after_id})]
