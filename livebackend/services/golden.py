"""Coins as the app knows them: buying some, giving them to a host, and what became of them."""

import time
import uuid
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select

from livebackend.db import Database
from livebackend.models import accounts, coin_accounts, rooms
from livebackend.results import Failure, Reason, Unavailable
from livebackend.services.ledger import (
    CoinAccount,
    Gift,
    Kind,
    Status,
    Transfer,
    Writer,
    client_key,
    external_account,
)
from livebackend.services.orders import Orders

# All that a call may take, its looks at the database included.
_WAIT_S = 4

_COINS_OF = select(coin_accounts.c.id).where(coin_accounts.c.owner_id == bindparam("account_id"))
_HOST = (
    select(accounts.c.id, coin_accounts.c.id.label("coin_account_id"), rooms.c.id.label("room_id"))
    .join(coin_accounts, coin_accounts.c.owner_id == accounts.c.id)
    .outerjoin(rooms, and_(rooms.c.account_id == accounts.c.id, rooms.c.state == "open"))
    .where(accounts.c.phone == bindparam("phone"))
)


class Golden:
    """Refills and gifts. Nothing is held open while the ledger's writer works.

    Refills are ordered where there are `orders`, else credited at once if `direct`.
    """

    def __init__(
        self,
        database: Database,
        writer: Writer,
        orders: Orders | None,
        *,
        direct: bool,
        coins_per_yuan: int,
    ) -> None:
        self._database = database
        self._writer = writer
        self._orders = orders
        self._direct = direct
        self._coins_per_yuan = coins_per_yuan

    def refill(
        self, account_id: int, *, yuan: int, request_id: str | None
    ) -> dict[str, Any] | None:
        """Credits an account with the coins that so many yuan buy, or orders them.

        Returns the order, as the app reads it, or nothing.
        Fails with: the refusal code, where refills are switched off, for a request id that was used
        otherwise, and when the provider fails.
        """
        coins = yuan * self._coins_per_yuan
        if self._orders:
            return self._orders.open(
                account_id, yuan=yuan, coins=coins, request_id=request_id or _minted()
            )
        if not self._direct:
            raise Failure(None, "refill", Reason.SWITCHED_OFF)
        self._credit(account_id, coins, request_id or _minted())
        return None

    def send_gift(
        self, account_id: int, *, host: str, coins: int, description: str, request_id: str | None
    ) -> None:
        """Moves coins to the host with that phone, who need not be live.

        Fails with: the refusal code, for an unknown host, oneself, a request id that was used
        otherwise, and too few coins.
        """
        deadline = time.monotonic() + _WAIT_S

        def sides(connection: Connection) -> tuple[int, int, Gift]:
            mine = connection.execute(_COINS_OF, {"account_id": account_id}).scalar_one()
            found = connection.execute(_HOST, {"phone": host}).one_or_none()
            if found is None:
                raise Failure(None, "object", Reason.UNKNOWN)
            return mine, found.coin_account_id, Gift(found.id, found.room_id, description)

        mine, theirs, gift = self._database.run(sides)
        if mine == theirs:
            raise Failure(None, "object", Reason.ONESELF)
        repeat_as = request_id or _minted()
        transfer = Transfer(
            kind=Kind.GIFT,
            actor=mine,
            debit=CoinAccount(mine),
            credit=CoinAccount(theirs),
            amount=coins,
            request_id=client_key(mine, repeat_as),
            gift=gift,
        )
        self._submit(transfer, repeat_as, deadline)

    def _credit(self, account_id: int, coins: int, repeat_as: str) -> None:
        deadline = time.monotonic() + _WAIT_S

        def sides(connection: Connection) -> tuple[int, int]:
            mine = connection.execute(_COINS_OF, {"account_id": account_id}).scalar_one()
            return mine, external_account(connection, "direct")

        mine, provider = self._database.run(sides)
        transfer = Transfer(
            kind=Kind.REFILL,
            actor=mine,
            debit=CoinAccount(provider, external=True),
            credit=CoinAccount(mine),
            amount=coins,
            request_id=client_key(mine, repeat_as),
        )
        self._submit(transfer, repeat_as, deadline)

    def _submit(self, transfer: Transfer, repeat_as: str, deadline: float) -> None:
        try:
            outcome = self._writer.submit(transfer, deadline=deadline)
        except Unavailable as error:
            # Whoever gave no id of his own learns the one that makes a repetition safe.
            error.repeat_as = repeat_as
            raise
        if outcome.status is Status.CONFLICT:
            raise Failure(None, "requestId", Reason.USED_OTHERWISE)
        if outcome.status is Status.NO_COINS:
            raise Failure(None, "value", Reason.NOT_ENOUGH_COINS)


def _minted() -> str:
    # Made before the transfer is handed in, so that repeating it never moves coins twice.
    return uuid.uuid4().hex
