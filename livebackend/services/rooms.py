"""Rooms: going live and leaving. A room is claimed in the table before the provider is called."""

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
from livebackend.gateways.streams import (
    Stream,
    StreamExists,
    StreamFailed,
    StreamGateway,
    document_of,
)
from livebackend.services.stream_monitor import CLOSE, CLOSE_STALE, Room, Streams

log = logging.getLogger(__name__)

# Whoever finds the room being opened by another call looks again this often, for 3 s in all.
_LOOKS, _LOOK_AFTER_S = 60, 0.05
# A stream that was seen so lately is not asked for again, when its broadcaster goes live again.
_STILL_KNOWN = timedelta(seconds=10)

_NEXT_ID = text("SELECT nextval(pg_get_serial_sequence('rooms', 'id'))")
# An account that is being removed is waited for, and then is none any more.
_ACCOUNT = (
    select(models.Account.id)
    .where(models.Account.id == bindparam("account_id"), models.Account.phone.is_not(None))
    .with_for_update(read=True, key_share=True)
)
_known_at = func.greatest(
    models.Room.stream_seen_at,
    func.coalesce(models.Room.provider_checked_at, models.Room.stream_seen_at),
)
_NOT_CLOSED = select(
    models.Room.id,
    models.Room.state,
    models.Room.stream,
    (_known_at < func.now() - _STILL_KNOWN).label("in_doubt"),
).where(models.Room.account_id == bindparam("account_id"), models.Room.state != "closed")
_HAS_FAILED = select(models.Room.id).where(
    models.Room.id == bindparam("room_id"), models.Room.close_reason == "failed"
)
_CLAIM = insert(models.Room).on_conflict_do_nothing().returning(models.Room.id)
_of_account = models.Room.account_id == bindparam("of_account")
_this = models.Room.id == bindparam("room_id")
_CLOSE_STALE = CLOSE_STALE.where(_of_account)
_CLOSE_OPENING = CLOSE.where(_this, models.Room.state == "opening")
_CLOSE_OPEN = CLOSE.where(_of_account, models.room_is_open)
_MADE = (
    update(models.Room)
    .values(
        stream=bindparam("document"),
        play_urls=bindparam("urls", type_=JSONB),
        stream_seen_at=func.now(),
        # Nobody publishes yet.
        offline_since=func.now(),
    )
    .returning(models.Room.id)
)
_OPEN = _MADE.where(_this, models.Room.state == "opening").values(
    state="open", started_at=func.now()
)
_MADE_AGAIN = _MADE.where(_this, models.room_is_open)
_ASK_ABOUT = (
    update(models.Room)
    .where(_this, models.room_is_open, _known_at < func.now() - _STILL_KNOWN)
    .values(provider_checked_at=func.now())
    .returning(models.Room.id, models.Room.stream_key, models.Room.publish_key)
)
_MINE = select(models.Room.stream_key, models.Room.stream, models.Room.offline_since).where(
    _of_account, models.room_is_open
)


class _Claim(NamedTuple):
    """A room that this call alone may open, or make the stream of again."""

    room_id: int
    key: str
    publish_key: str


class _Found(NamedTuple):
    """A room that is there already; without a stream while another call is opening it."""

    room_id: int
    stream: str | None
    # It was not seen for so long that its provider may have forgotten it.
    in_doubt: bool


class Beat(NamedTuple):
    """What a broadcaster's app hears of its room."""

    on_air: bool
    # For him alone: it bears the publish key, or what stands for it.
    publish_url: str


class Rooms:
    """Opens and closes rooms. `random` makes publish keys, `key` the streams' names."""

    def __init__(
        self,
        database: Database,
        gateway: StreamGateway,
        streams: Streams,
        *,
        random: Random,
        key: bytes,
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._streams = streams
        self._random = random
        self._key = key

    def go_live(self, account_id: int, *, title: str | None) -> str:
        """The JSON of the account's stream; who is live already gets the same, and keeps the title.

        However many call at once, the provider is asked for one stream. One that the provider has
        forgotten meanwhile is made again.
        Raises StreamNotCreated if the provider fails, and TokenInvalid for a removed account.
        """
        waited_for = 0
        for _ in range(_LOOKS):
            found = self._claim(account_id, title=title, waited_for=waited_for)
            if isinstance(found, _Claim):
                return self._open(found)
            if found and found.stream:
                return self._made_sure(found) if found.in_doubt else found.stream
            waited_for = found.room_id if found else waited_for
            time.sleep(_LOOK_AFTER_S)
        raise StreamNotCreated

    def leave(self, account_id: int, *, reason: str = "left") -> None:
        """Closes the account's room for everyone, then disables its stream.

        Raises RoomNotOpen. If the provider fails, housekeeping tries again.
        """
        closed = self._close(_CLOSE_OPEN, of_account=account_id, reason=reason)
        if closed is None:
            raise RoomNotOpen
        self._streams.disable(closed)

    def heartbeat(self, account_id: int) -> Beat:
        """Whether the account's stream is on air, and where to publish it from now on.

        Raises RoomNotOpen.
        """
        self._streams.look_at(self._mine(account_id).stream_key)
        room = self._mine(account_id)
        url = self._gateway.publish_url(document_of(room.stream))
        return Beat(on_air=room.offline_since is None, publish_url=url)

    def _claim(
        self, account_id: int, *, title: str | None, waited_for: int
    ) -> _Claim | _Found | None:
        """A claim; or the room that is there; or None when another call was faster just now."""

        def work(connection: Connection) -> _Claim | _Found | None:
            of_account = {"account_id": account_id}
            connection.execute(_CLOSE_STALE, {"of_account": account_id, "reason": "abandoned"})
            room = connection.execute(_NOT_CLOSED, of_account).one_or_none()
            if room is not None:
                return _Found(room.id, room.stream if room.state == "open" else None, room.in_doubt)
            if waited_for and connection.execute(_HAS_FAILED, {"room_id": waited_for}).first():
                raise StreamNotCreated
            if connection.execute(_ACCOUNT, of_account).first() is None:
                raise TokenInvalid
            return self._insert(connection, {**of_account, "title": title})

        return self._database.run(work)

    def _insert(self, connection: Connection, room: dict[str, Any]) -> _Claim | None:
        room_id = connection.execute(_NEXT_ID).scalar_one()
        claim = _Claim(room_id, self._stream_key(room_id), f"{self._random.getrandbits(64):016x}")
        keys = {"id": room_id, "stream_key": claim.key, "publish_key": claim.publish_key}
        return claim if connection.execute(_CLAIM, {**room, **keys}).first() else None

    def _open(self, claim: _Claim) -> str:
        try:
            stream = self._gateway.create(claim.key, claim.publish_key)
        except StreamFailed as error:
            log.error("stream %s was not created: %s", claim.key, error)
            # It may have been made all the same: the sweeper disables it.
            self._close(_CLOSE_OPENING, room_id=claim.room_id, reason="failed")
            raise StreamNotCreated from error
        return self._kept(_OPEN, claim, stream)

    def _made_sure(self, found: _Found) -> str:
        """The stream of an open room; it is made again if its provider has forgotten it."""
        room = self._database.execute_one(_ASK_ABOUT, room_id=found.room_id)
        known = found.stream or ""
        if room is None:
            return known  # another call asks, at this moment
        claim = _Claim(*room)
        try:
            if self._gateway.knows(claim.key):
                return known
        except StreamFailed as error:
            log.warning("whether %s is still there is not known: %s", claim.key, error)
            return known
        try:
            stream = self._gateway.create(claim.key, claim.publish_key)
        except StreamExists:
            return known
        except StreamFailed as error:
            log.error("stream %s was not created again: %s", claim.key, error)
            raise StreamNotCreated from error
        return self._kept(_MADE_AGAIN, claim, stream)

    def _kept(self, statement: Any, claim: _Claim, stream: Stream) -> str:
        """Writes a stream down that has been made; its JSON."""
        document = stream.text
        kept = self._database.execute_one(
            statement, room_id=claim.room_id, document=document, urls=stream.play_urls
        )
        if kept is None:  # it took so long that the room was closed meanwhile
            self._streams.disable(Room(claim.room_id, claim.key))
            raise StreamNotCreated
        return document

    def _close(self, statement: Any, **values: Any) -> Room | None:
        row = self._database.execute_one(statement, **values)
        return Room(row.id, row.stream_key) if row else None

    def _mine(self, account_id: int) -> Any:
        row = self._database.execute_one(_MINE, of_account=account_id)
        if row is None:
            raise RoomNotOpen
        return row

    def _stream_key(self, room_id: int) -> str:
        # The same for the same room, and nobody guesses another's: it stands in the play URLs.
        return hmac.digest(self._key, f"stream {room_id}".encode(), "sha256").hex()[:24]
