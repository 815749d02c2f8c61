"""Coins as the app knows them: buying some, and giving them to a host."""

import uuid
from typing import Protocol

from sqlalchemy import Connection, and_, bindparam, select

from livebackend.db import Database
from livebackend.models import accounts, coin_accounts, rooms
from livebackend.results import Failure, Reason
from livebackend.services.ledger import (
    CoinAccount,
    Gift,
    Kind,
    Outcome,
    Status,
    Transfer,
    external_account,
    request_key,
)

_COINS_OF = select(coin_accounts.c.id).where(coin_accounts.c.owner_id == bindparam("account_id"))
_HOST = (
    select(accounts.c.id, coin_accounts.c.id.label("coin_account_id"), rooms.c.id.label("room_id"))
    .join(coin_accounts, coin_accounts.c.owner_id == accounts.c.id)
    .outerjoin(rooms, and_(rooms.c.account_id == accounts.c.id, rooms.c.state == "open"))
    .where(accounts.c.phone == bindparam("phone"))
)


class Writer(Protocol):
    """Whoever hands transfers to the ledger."""

    def submit(self, transfer: Transfer) -> Outcome: ...


class Golden:
    """Refills and gifts. Nothing is held open while the ledger's writer works."""

    def __init__(
        self, database: Database, writer: Writer, *, refill: str, coins_per_yuan: int
    ) -> None:
        self._database = database
        self._writer = writer
        self._refill = refill
        self._coins_per_yuan = coins_per_yuan

    def refill(self, account_id: int, *, yuan: int, request_id: str | None) -> None:
        """Credits an account with the coins that so many yuan buy.

        Fails with: the refusal code, where refills are switched off, and for a request id that was
        used otherwise.
        """
        if self._refill != "direct":
            raise Failure(None, "refill", Reason.SWITCHED_OFF)

        def sides(connection: Connection) -> tuple[int, int]:
            mine = connection.execute(_COINS_OF, {"account_id": account_id}).scalar_one()
            return mine, external_account(connection, "direct")

        mine, provider = self._database.run(sides)
        self._submit(
            Transfer(
                kind=Kind.REFILL,
                actor=mine,
                debit=CoinAccount(provider, external=True),
                credit=CoinAccount(mine),
                amount=yuan * self._coins_per_yuan,
                request_id=_key(mine, request_id),
            )
        )

    def send_gift(
        self, account_id: int, *, host: str, coins: int, description: str, request_id: str | None
    ) -> None:
        """Moves coins to the host with that phone, who need not be live.

        Fails with: the refusal code, for an unknown host, oneself, a request id that was used
        otherwise, and too few coins.
        """

        def sides(connection: Connection) -> tuple[int, int, Gift]:
            mine = connection.execute(_COINS_OF, {"account_id": account_id}).scalar_one()
            found = connection.execute(_HOST, {"phone": host}).one_or_none()
            if found is None:
                raise Failure(None, "object", Reason.UNKNOWN)
            return mine, found.coin_account_id, Gift(found.id, found.room_id, description)

        mine, theirs, gift = self._database.run(sides)
        if mine == theirs:
            raise Failure(None, "object", Reason.ONESELF)
        self._submit(
            Transfer(
                kind=Kind.GIFT,
                actor=mine,
                debit=CoinAccount(mine),
                credit=CoinAccount(theirs),
                amount=coins,
                request_id=_key(mine, request_id),
                gift=gift,
            )
        )

    def _submit(self, transfer: Transfer) -> None:
        outcome = self._writer.submit(transfer)
        if outcome.status is Status.CONFLICT:
            raise Failure(None, "requestId", Reason.USED_OTHERWISE)
        if outcome.status is Status.NO_COINS:
            raise Failure(None, "value", Reason.NOT_ENOUGH_COINS)


def _key(actor: int, request_id: str | None) -> uuid.UUID:
    # Made before the transfer is handed in, so that repeating it never moves coins twice.
    return request_key("client", actor, request_id) if request_id else uuid.uuid4()
