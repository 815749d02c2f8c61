"""Live rooms: going live, leaving, and heartbeats.

A room is inserted before the provider is called, so that concurrent requests create one stream.
"""

import hmac
import logging
import time
from datetime import timedelta
from random import Random
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from livebackend import models
from livebackend.core.errors import RoomNotOpen, StreamNotCreated, TokenInvalid
from livebackend.database.engine import Database
from livebackend.events.declarations import EventType
from livebackend.events.outbox import Outbox
from livebackend.gateways.streams import (
    Stream,
    StreamExists,
    StreamFailed,
    StreamGateway,
    parse_document,
    stream_reference,
)
from livebackend.services.stream_monitor import (
    CLOSE_ABANDONED_ROOMS,
    CLOSE_ROOMS,
    RoomStream,
    StreamMonitor,
)

log = logging.getLogger(__name__)

# While another request opens the room, this request queries the room up to 60 times in 3 s.
_MAX_POLLS, _POLL_INTERVAL_S = 60, 0.05
# A repeated request to go live checks whether the stream still exists, if the last confirmation by
# the provider is older than this.
_RECHECK_AFTER = timedelta(seconds=10)

_NEXT_ROOM_ID = text("SELECT nextval(pg_get_serial_sequence('rooms', 'id'))")
# The lock waits for a concurrent request that removes or disables the account, and such a request
# waits for the lock. The statement returns no row for a removed or disabled account.
_LOCK_ACCOUNT = (
    select(models.Account.id)
    .where(
        models.Account.id == bindparam("account_id"),
        models.Account.phone.is_not(None),
        models.Account.disabled_at.is_(None),
    )
    .with_for_update(read=True)
)
_stream_confirmed_at = func.greatest(
    models.Room.stream_seen_at,
    func.coalesce(models.Room.provider_checked_at, models.Room.stream_seen_at),
)
_FIND_ROOM_NOT_CLOSED = select(
    models.Room.id,
    models.Room.state,
    models.Room.stream,
    (_stream_confirmed_at < func.now() - _RECHECK_AFTER).label("needs_check"),
).where(models.Room.account_id == bindparam("account_id"), models.Room.state != "closed")
_FIND_FAILED_ROOM = select(models.Room.id).where(
    models.Room.id == bindparam("room_id"), models.Room.close_reason == "failed"
)
_INSERT_ROOM = insert(models.Room).on_conflict_do_nothing().returning(models.Room.id)
_is_room_of_account = models.Room.account_id == bindparam("of_account")
_is_this_room = models.Room.id == bindparam("room_id")
_CLOSE_ABANDONED_ROOM = CLOSE_ABANDONED_ROOMS.where(_is_room_of_account)
_CLOSE_OPENING_ROOM = CLOSE_ROOMS.where(_is_this_room, models.Room.state == "opening")
_CLOSE_OPEN_ROOM = CLOSE_ROOMS.where(_is_room_of_account, models.room_is_open)
_CLOSE_OPEN_OR_OPENING_ROOM = CLOSE_ROOMS.where(_is_room_of_account, models.Room.state != "closed")
_STORE_STREAM = (
    update(models.Room)
    .values(
        stream=bindparam("document"),
        play_urls=bindparam("urls", type_=JSONB),
        stream_seen_at=func.now(),
        # No publisher of the new stream is online yet.
        offline_since=func.now(),
    )
    .returning(models.Room.id, models.Room.account_id)
)
_STORE_STREAM_AND_OPEN = _STORE_STREAM.where(_is_this_room, models.Room.state == "opening").values(
    state="open", started_at=func.now()
)
_REPLACE_STREAM = _STORE_STREAM.where(_is_this_room, models.room_is_open)
_BEGIN_STREAM_CHECK = (
    update(models.Room)
    .where(_is_this_room, models.room_is_open, _stream_confirmed_at < func.now() - _RECHECK_AFTER)
    .values(provider_checked_at=func.now())
    .returning(models.Room.id, models.Room.stream_key, models.Room.publish_key)
)
_FIND_OPEN_ROOM = select(
    models.Room.stream_key, models.Room.stream, models.Room.offline_since
).where(_is_room_of_account, models.room_is_open)


class _RoomReservation(NamedTuple):
    """A room for which only this request may create the stream."""

    room_id: int
    stream_key: str
    publish_key: str


class _ExistingRoom(NamedTuple):
    """A room that is not closed; `stream` is None while another request opens it."""

    room_id: int
    stream: str | None
    # Whether the provider's last confirmation of the stream is older than _RECHECK_AFTER.
    needs_check: bool


class Heartbeat(NamedTuple):
    """The response to a heartbeat of the host."""

    is_live: bool
    # The URL is visible to the host only, because it contains the publish key or a signature.
    publish_url: str


class Rooms:
    """Opens and closes rooms.

    `rng` generates publish keys. `stream_name_key` is the HMAC key of stream keys.
    """

    def __init__(
        self,
        database: Database,
        gateway: StreamGateway,
        stream_monitor: StreamMonitor,
        outbox: Outbox,
        *,
        rng: Random,
        stream_name_key: bytes,
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._stream_monitor = stream_monitor
        self._outbox = outbox
        self._rng = rng
        self._stream_name_key = stream_name_key

    def go_live(self, account_id: int, *, title: str | None) -> str:
        """Open a room and return the JSON of its stream.

        If the account has an open room, returns its stream and keeps its title; a stream that the
        provider has deleted is created again. Concurrent calls create one stream.
        Raises StreamNotCreated if the provider fails, and TokenInvalid for a removed or disabled
        account.
        """
        opening_room_id = 0
        for _ in range(_MAX_POLLS):
            room = self._reserve(account_id, title=title, opening_room_id=opening_room_id)
            if isinstance(room, _RoomReservation):
                return self._open(room)
            if room and room.stream:
                return self._ensure_stream(room) if room.needs_check else room.stream
            opening_room_id = room.room_id if room else opening_room_id
            time.sleep(_POLL_INTERVAL_S)
        raise StreamNotCreated

    def leave(self, account_id: int) -> None:
        """Close the account's room, then disable its stream.

        Raises RoomNotOpen. If the provider fails, housekeeping disables the stream later.
        """
        closed_room = self._close(_CLOSE_OPEN_ROOM, of_account=account_id, reason="left")
        if closed_room is None:
            raise RoomNotOpen
        self._stream_monitor.disable(closed_room)

    def close_for_operator(self, account_id: int) -> int | None:
        """Close the account's room, also while it is `opening`; return its id, or None.

        The request that opens the room then fails, and disables the stream that it created.
        """
        closed_room = self._close(
            _CLOSE_OPEN_OR_OPENING_ROOM, of_account=account_id, reason="operator"
        )
        if closed_room is None:
            return None
        self._stream_monitor.disable(closed_room)
        return closed_room.id

    def heartbeat(self, account_id: int) -> Heartbeat:
        """Return whether the account's stream is live, and a current URL to publish it.

        Raises RoomNotOpen.
        """
        self._stream_monitor.refresh_status(self._find_open_room(account_id).stream_key)
        room = self._find_open_room(account_id)
        url = self._gateway.publish_url(parse_document(room.stream))
        return Heartbeat(is_live=room.offline_since is None, publish_url=url)

    def _reserve(
        self, account_id: int, *, title: str | None, opening_room_id: int
    ) -> _RoomReservation | _ExistingRoom | None:
        """Reserve a new room, or return the account's room that is not closed.

        Returns None if a concurrent request inserted a room first.
        Raises StreamNotCreated if another request failed to open the room `opening_room_id`.
        """

        def reserve_or_find(connection: Connection) -> _RoomReservation | _ExistingRoom | None:
            account_values = {"account_id": account_id}
            self._stream_monitor.close_rooms(
                connection, _CLOSE_ABANDONED_ROOM, reason="abandoned", of_account=account_id
            )
            room = connection.execute(_FIND_ROOM_NOT_CLOSED, account_values).one_or_none()
            if room is not None:
                stream = room.stream if room.state == "open" else None
                return _ExistingRoom(room.id, stream, room.needs_check)
            if (
                opening_room_id
                and connection.execute(_FIND_FAILED_ROOM, {"room_id": opening_room_id}).first()
            ):
                raise StreamNotCreated
            if connection.execute(_LOCK_ACCOUNT, account_values).first() is None:
                raise TokenInvalid
            return self._insert_room(connection, {**account_values, "title": title})

        return self._database.run(reserve_or_find)

    def _insert_room(
        self, connection: Connection, room_values: dict[str, Any]
    ) -> _RoomReservation | None:
        room_id = connection.execute(_NEXT_ROOM_ID).scalar_one()
        reservation = _RoomReservation(
            room_id, self._stream_key(room_id), f"{self._rng.getrandbits(64):016x}"
        )
        generated_values = {
            "id": room_id,
            "stream_key": reservation.stream_key,
            "publish_key": reservation.publish_key,
        }
        return (
            reservation
            if connection.execute(_INSERT_ROOM, {**room_values, **generated_values}).first()
            else None
        )

    def _open(self, reservation: _RoomReservation) -> str:
        try:
            stream = self._gateway.create(reservation.stream_key, reservation.publish_key)
        except StreamFailed as error:
            log.error("stream %s: creation failed: %s", reservation.stream_key, error)
            # The provider may have created the stream despite the error: housekeeping disables it.
            self._close(_CLOSE_OPENING_ROOM, room_id=reservation.room_id, reason="failed")
            raise StreamNotCreated from error
        return self._store_stream(reservation, stream, opens_room=True)

    def _ensure_stream(self, existing_room: _ExistingRoom) -> str:
        """Return the stream of an open room; recreate it if the provider deleted it."""
        checked_room = self._database.execute_one(
            _BEGIN_STREAM_CHECK, room_id=existing_room.room_id
        )
        stored_stream_json = existing_room.stream or ""
        if checked_room is None:
            return stored_stream_json  # another request checks the stream
        reservation = _RoomReservation(*checked_room)
        try:
            if self._gateway.exists(stream_reference(reservation.stream_key, stored_stream_json)):
                return stored_stream_json
        except StreamFailed as error:
            log.warning("stream %s: existence check failed: %s", reservation.stream_key, error)
            return stored_stream_json
        try:
            stream = self._gateway.create(reservation.stream_key, reservation.publish_key)
        except StreamExists:
            return stored_stream_json
        except StreamFailed as error:
            log.error(
                "stream %s: deleted by the provider, and its re-creation failed: %s",
                reservation.stream_key,
                error,
            )
            raise StreamNotCreated from error
        return self._store_stream(reservation, stream, opens_room=False)

    def _store_stream(
        self, reservation: _RoomReservation, stream: Stream, *, opens_room: bool
    ) -> str:
        """Store a new stream in its room; return the JSON of the stream."""
        stream_json = stream.document_json
        values = {
            "room_id": reservation.room_id,
            "document": stream_json,
            "urls": stream.play_urls,
        }

        def store(connection: Connection) -> bool:
            statement = _STORE_STREAM_AND_OPEN if opens_room else _REPLACE_STREAM
            room = connection.execute(statement, values).one_or_none()
            if room and opens_room:
                self._outbox.append(
                    connection,
                    EventType.FRIEND_LIVE,
                    account_id=room.account_id,
                    subject_id=room.id,
                )
            return room is not None

        if not self._database.run(store):  # the room was closed meanwhile
            self._stream_monitor.disable(
                RoomStream(reservation.room_id, reservation.stream_key, stream_json)
            )
            raise StreamNotCreated
        return stream_json

    def _close(self, statement: Any, **values: Any) -> RoomStream | None:
        rooms = self._database.run(
            lambda connection: self._stream_monitor.close_rooms(connection, statement, **values)
        )
        return rooms[0] if rooms else None

    def _find_open_room(self, account_id: int) -> Any:
        row = self._database.execute_one(_FIND_OPEN_ROOM, of_account=account_id)
        if row is None:
            raise RoomNotOpen
        return row

    def _stream_key(self, room_id: int) -> str:
        # The stream key is derived with a secret, so that play URLs, which contain it, cannot be
        # guessed.
        return hmac.digest(self._stream_name_key, f"stream {room_id}".encode(), "sha256").hex()[:24]
