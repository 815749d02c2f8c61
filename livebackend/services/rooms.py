"""Rooms: going live and leaving. A room is claimed in the table before the provider is called."""

import hmac
import logging
import time
from datetime import timedelta
from random import Random
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from livebackend.db import Database
from livebackend.gateways.streams import StreamFailed, StreamGateway
from livebackend.models import rooms
from livebackend.results import Failure, Reason

log = logging.getLogger(__name__)

# Whoever finds the room being opened by another call looks again this often, for 3 s in all.
_LOOKS, _LOOK_AFTER_S = 60, 0.05
# A call to the provider ends within 4 s: what is opening for longer was left behind by a crash.
_STALE_AFTER = timedelta(seconds=10)

_NEXT_ID = text("SELECT nextval(pg_get_serial_sequence('rooms', 'id'))")
_NOT_CLOSED = select(rooms.c.state, rooms.c.stream).where(
    rooms.c.account_id == bindparam("account_id"), rooms.c.state != "closed"
)
_CLAIM = insert(rooms).on_conflict_do_nothing().returning(rooms.c.id)
_CLOSE = (
    update(rooms)
    .values(state="closed", closed_at=func.now(), close_reason=bindparam("reason"))
    .returning(rooms.c.id, rooms.c.stream_key)
)
_CLOSE_STALE = _CLOSE.where(
    rooms.c.account_id == bindparam("of_account"),
    rooms.c.state == "opening",
    rooms.c.started_at < func.now() - _STALE_AFTER,
)
_CLOSE_OPENING = _CLOSE.where(rooms.c.id == bindparam("room_id"), rooms.c.state == "opening")
_CLOSE_OPEN = _CLOSE.where(rooms.c.account_id == bindparam("of_account"), rooms.c.state == "open")
_OPEN = (
    update(rooms)
    .where(rooms.c.id == bindparam("room_id"), rooms.c.state == "opening")
    .values(
        state="open",
        stream=bindparam("document"),
        play_urls=bindparam("urls", type_=JSONB),
        started_at=func.now(),
    )
    .returning(rooms.c.id)
)
_DISABLED = update(rooms).where(rooms.c.id == bindparam("room_id")).values(disabled_at=func.now())


class _Claim(NamedTuple):
    """A room that this call alone may open."""

    room_id: int
    key: str
    publish_key: str


class Rooms:
    """Opens and closes rooms. `random` makes publish keys, `key` the streams' names."""

    def __init__(
        self, database: Database, streams: StreamGateway, *, random: Random, key: bytes
    ) -> None:
        self._database = database
        self._streams = streams
        self._random = random
        self._key = key

    def go_live(self, account_id: int, *, title: str | None) -> str:
        """The JSON of the account's stream; who is live already gets the same, and keeps the title.

        However many call at once, the provider is asked for one stream.
        Fails with: the refusal code, when the provider fails.
        """
        for _ in range(_LOOKS):
            found = self._database.run(
                lambda connection: self._claim(connection, account_id, title)
            )
            if isinstance(found, _Claim):
                return self._open(found)
            if found is not None:
                return found
            time.sleep(_LOOK_AFTER_S)
        raise Failure(None, "stream", Reason.OUTSIDE_FAILED)

    def leave(self, account_id: int) -> None:
        """Closes the account's room for everyone, then disables its stream.

        Fails with: the refusal code, for who is not live. A provider that fails is no refusal: the
        row says that the stream is still to be disabled.
        """
        closed = self._database.run(
            lambda connection: connection.execute(
                _CLOSE_OPEN, {"of_account": account_id, "reason": "left"}
            ).one_or_none()
        )
        if closed is None:
            raise Failure(None, "room", Reason.NOT_LIVE)
        self._disable(closed.id, closed.stream_key)

    def _claim(
        self, connection: Connection, account_id: int, title: str | None
    ) -> _Claim | str | None:
        """A claim; or the open room's stream; or None while another call is opening it."""
        connection.execute(_CLOSE_STALE, {"of_account": account_id, "reason": "abandoned"})
        room = connection.execute(_NOT_CLOSED, {"account_id": account_id}).one_or_none()
        if room is not None:
            return room.stream if room.state == "open" else None
        room_id = connection.execute(_NEXT_ID).scalar_one()
        claim = _Claim(room_id, self._stream_key(room_id), f"{self._random.getrandbits(64):016x}")
        claimed = connection.execute(
            _CLAIM,
            {
                "id": room_id,
                "account_id": account_id,
                "title": title,
                "stream_key": claim.key,
                "publish_key": claim.publish_key,
            },
        ).one_or_none()
        return claim if claimed else None

    def _open(self, claim: _Claim) -> str:
        try:
            stream = self._streams.create(claim.key, claim.publish_key)
        except StreamFailed as error:
            log.error("stream %s was not created: %s", claim.key, error)
            self._database.run(
                lambda connection: connection.execute(
                    _CLOSE_OPENING, {"room_id": claim.room_id, "reason": "failed"}
                ).one_or_none()
            )
            raise Failure(None, "stream", Reason.OUTSIDE_FAILED) from error
        document = orjson.dumps(stream.document).decode()
        opened = self._database.run(
            lambda connection: connection.execute(
                _OPEN,
                {"room_id": claim.room_id, "document": document, "urls": stream.play_urls},
            ).one_or_none()
        )
        if opened is None:  # it took so long that another call gave the room up
            self._disable(claim.room_id, claim.key)
            raise Failure(None, "stream", Reason.OUTSIDE_FAILED)
        return document

    def _disable(self, room_id: int, stream_key: str) -> None:
        try:
            self._streams.disable(stream_key)
        except StreamFailed as error:
            log.error("stream %s is still to be disabled: %s", stream_key, error)
            return
        self._database.run(
            lambda connection: connection.execute(_DISABLED, {"room_id": room_id}).rowcount
        )

    def _stream_key(self, room_id: int) -> str:
        # The same for the same room, and nobody guesses another's: it stands in the play URLs.
        return hmac.digest(self._key, f"stream {room_id}".encode(), "sha256").hex()[:24]
