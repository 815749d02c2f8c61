"""What becomes of rooms' streams: who publishes, who has vanished, and how a stream ends.

A broadcaster who vanishes tells nobody. The provider's callbacks, the app's heartbeats and the
sweeper's rounds are hints: each makes us ask the provider, and only his answer counts.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, text, update

from livebackend import models
from livebackend.database.engine import Database
from livebackend.gateways.streams import ProviderAway, StreamFailed, StreamGateway

log = logging.getLogger(__name__)

# A call to the provider ends within 4 s: what is opening for longer was left behind by a crash.
STALE_S = 5
# However many hints there are, the provider is asked about one room no oftener than this.
_LOOK_EVERY = timedelta(seconds=2)
# So long after he was let in a publisher may be missing from the media server's own list.
SETTLED_AFTER = timedelta(seconds=5)
# As many as the providers take in one call.
_BATCH = 100

CLOSE = (
    update(models.Room)
    .values(state="closed", closed_at=func.now(), close_reason=bindparam("reason"))
    .returning(models.Room.id, models.Room.stream_key, models.Room.stream_seen_at)
)
CLOSE_STALE = CLOSE.where(
    models.Room.state == "opening", models.Room.started_at < func.now() - timedelta(seconds=STALE_S)
)
_ROOMS = (
    select(models.Room.id, models.Room.stream_key)
    .where(models.room_is_open, models.Room.id > bindparam("after"))
    .order_by(models.Room.id)
    .limit(_BATCH)
)
_SEEN = text(
    """
    UPDATE rooms SET stream_seen_at = now(), offline_since = NULL, publisher = found.publisher,
        published_at = CASE WHEN found.publisher IS NOT NULL THEN
            CASE WHEN rooms.publisher = found.publisher THEN published_at ELSE now() END
        END
    FROM unnest(CAST(:ids AS bigint[]), CAST(:publishers AS varchar[])) AS found (id, publisher)
    WHERE rooms.id = found.id AND state = 'open'
    """
)
_these = models.Room.id.in_(bindparam("ids", expanding=True))
_ABSENT = (
    update(models.Room)
    .where(
        _these,
        models.room_is_open,
        func.coalesce(models.Room.published_at < func.now() - SETTLED_AFTER, True),
    )
    .values(
        offline_since=func.coalesce(models.Room.offline_since, func.now()),
        publisher=None,
        published_at=None,
    )
)
_CLOSE_VANISHED = CLOSE.where(
    _these, models.room_is_open, models.Room.offline_since <= func.now() - bindparam("absent")
)
_TAKE_A_LOOK = (
    update(models.Room)
    .where(
        models.Room.stream_key == bindparam("key"),
        models.room_is_open,
        func.coalesce(models.Room.provider_checked_at < func.now() - _LOOK_EVERY, True),
    )
    .values(provider_checked_at=func.now())
    .returning(models.Room.id, models.Room.stream_key)
)
_TO_DISABLE = (
    select(models.Room.id, models.Room.stream_key)
    .where(
        models.Room.state == "closed",
        models.Room.disabled_at.is_(None),
        models.Room.disable_retry_at <= func.now(),
    )
    .order_by(models.Room.disable_retry_at)
    .limit(_BATCH)
)
_this = models.Room.id == bindparam("room_id")
_DISABLED = update(models.Room).where(_this).values(disabled_at=func.now())
# 10 s, 20, 40, … up to some ten minutes.
_PUT_OFF = text(
    """
    UPDATE rooms SET disable_attempts = least(disable_attempts + 1, 1000),
        disable_retry_at = now() + interval '10 seconds' * power(2, least(disable_attempts, 6))
    WHERE id = :room_id
    """
)


class Room(NamedTuple):
    """A room as the provider knows it."""

    id: int
    stream_key: str


class Swept(NamedTuple):
    """What one round of the sweeper came to."""

    looked_at: int
    closed: int
    disabled: int
    # The provider failed: those that are left are the next round's.
    failed: bool


class Streams:
    """Keeps rooms true to their streams. A room whose stream was absent for `absent` is closed."""

    def __init__(self, database: Database, gateway: StreamGateway, *, absent: timedelta) -> None:
        self._database = database
        self._gateway = gateway
        self._absent = absent

    def disable(self, room: Room) -> StreamFailed | None:
        """Cuts a closed room's publisher off; the failure, if that is left to the sweeper."""
        try:
            self._gateway.disable(room.stream_key)
        except StreamFailed as error:
            log.error("stream %s is still to be disabled: %s", room.stream_key, error)
            self._database.execute_one(_PUT_OFF, room_id=room.id)
            return error
        self._database.execute_one(_DISABLED, room_id=room.id)
        return None

    def look_at(self, stream_key: str) -> None:
        """Asks the provider about one open room: somebody hints that it has changed.

        The same hint again, true or replayed, costs and changes nothing more. An unknown stream
        and a provider that fails change nothing.
        """
        room = self._database.execute_one(_TAKE_A_LOOK, key=stream_key)
        if room is None:
            return
        try:
            closed = self._look([Room(*room)])
        except StreamFailed as error:
            log.warning("whether %s is on air is not known: %s", stream_key, error)
            return
        for each in closed:
            self.disable(each)

    def sweep(self, may_go_on: Callable[[], bool] = lambda: True) -> Swept:
        """One round over all rooms; `may_go_on` is asked before each call of the provider.

        It gives up what a crash left behind, closes the rooms of those who vanished, and disables
        the streams that are due.
        """
        abandoned = self._database.run(
            lambda connection: _closed(connection, CLOSE_STALE, reason="abandoned")
        )
        looked_at, vanished, unanswered = self._look_at_all(may_go_on)
        disabled, refused = self._disable_due(may_go_on)
        closed = len(abandoned) + vanished
        return Swept(looked_at, closed, disabled, failed=unanswered or refused)

    def _look_at_all(self, may_go_on: Callable[[], bool]) -> tuple[int, int, bool]:
        """How many were looked at, how many closed by that, and whether the provider failed."""
        looked_at = closed = after = 0
        while batch := self._database.run(partial(_batch, after=after)):
            if not may_go_on():
                break
            try:
                closed += len(self._look(batch))
            except StreamFailed as error:
                log.error("who is on air is not known: %s", error)
                return looked_at, closed, True
            looked_at += len(batch)
            after = batch[-1].id
        return looked_at, closed, False

    def _look(self, batch: Sequence[Room]) -> list[Room]:
        """Asks the provider about some rooms; those that are closed by his answer."""
        on_air = self._gateway.on_air([room.stream_key for room in batch])
        return self._database.run(partial(self._note, batch=batch, on_air=on_air))

    def _note(
        self, connection: Connection, *, batch: Sequence[Room], on_air: Mapping[str, str | None]
    ) -> list[Room]:
        seen = [room for room in batch if room.stream_key in on_air]
        absent = [room.id for room in batch if room.stream_key not in on_air]
        if seen:
            publishers = [on_air[room.stream_key] for room in seen]
            connection.execute(_SEEN, {"ids": [room.id for room in seen], "publishers": publishers})
        if not absent:
            return []
        connection.execute(_ABSENT, {"ids": absent})
        return _closed(
            connection, _CLOSE_VANISHED, reason="offline", ids=absent, absent=self._absent
        )

    def _disable_due(self, may_go_on: Callable[[], bool]) -> tuple[int, bool]:
        due = self._database.run(
            lambda connection: [Room(*row) for row in connection.execute(_TO_DISABLE)]
        )
        done, failed = 0, False
        for room in due:
            if not may_go_on():
                break
            error = self.disable(room)
            done += error is None
            failed |= error is not None
            if isinstance(error, ProviderAway):
                break  # nor would it answer about the next
        return done, failed


def _batch(connection: Connection, *, after: int) -> list[Room]:
    return [Room(*row) for row in connection.execute(_ROOMS, {"after": after})]


def _closed(connection: Connection, statement: Any, **values: Any) -> list[Room]:
    """Closes rooms, and logs each with its reason and when its stream was last seen."""
    found = connection.execute(statement, values).all()
    for row in found:
        log.info(
            "room %s is closed: %s, last seen %s", row.id, values["reason"], row.stream_seen_at
        )
    return [Room(row.id, row.stream_key) for row in found]
