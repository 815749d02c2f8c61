"""Coins as the app knows them: buying some, giving them to a host, and what became of them."""

import time
import uuid
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select

from livebackend.db import Database
from livebackend.models import accounts, coin_accounts, room_is_open, rooms
from livebackend.prepared import Prepared
from livebackend.results import Failure, Reason, Unavailable
from livebackend.services.accounts import HOLDER, Claims, token_ended
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
_me, _mine, _theirs = HOLDER.cte("me"), coin_accounts.alias("mine"), coin_accounts.alias("theirs")
_host = accounts.join(_theirs, _theirs.c.owner_id == accounts.c.id).outerjoin(
    rooms, and_(rooms.c.account_id == accounts.c.id, room_is_open)
)
# One statement says whose the login token is, where his coins are, and who is meant by the phone:
# no row, nobody's; a host of nulls, nobody.
_SIDES = Prepared(
    select(
        _mine.c.id.label("mine"),
        _theirs.c.id.label("theirs"),
        accounts.c.id.label("host_id"),
        rooms.c.id.label("room_id"),
    ).select_from(
        _me.join(_mine, _mine.c.owner_id == _me.c.id).outerjoin(
            _host, accounts.c.phone == bindparam("phone")
        )
    )
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
        self, claims: Claims, *, host: str, coins: int, description: str, request_id: str | None
    ) -> None:
        """Moves coins to the host with that phone, who need not be live.

        Fails with: TOKEN_INVALID for a token that was ended, and the refusal code for an unknown
        host, oneself, a request id that was used otherwise, and too few coins.
        """
        deadline = time.monotonic() + _WAIT_S
        asked = claims.values | {"phone": host}
        sides = self._database.singly(lambda connection: _SIDES.first(connection, asked))
        if sides is None:
            raise token_ended()
        if sides.theirs is None:
            raise Failure(None, "object", Reason.UNKNOWN)
        if sides.mine == sides.theirs:
            raise Failure(None, "object", Reason.ONESELF)
        repeat_as = request_id or _minted()
        transfer = Transfer(
            kind=Kind.GIFT,
            actor=sides.mine,
            debit=CoinAccount(sides.mine),
            credit=CoinAccount(sides.theirs),
            amount=coins,
            request_id=client_key(sides.mine, repeat_as),
            gift=Gift(sides.host_id, sides.room_id, description),
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
