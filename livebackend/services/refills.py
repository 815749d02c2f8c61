"""Refills: purchases of coins."""

import time
from typing import Literal

from sqlalchemy import Connection, bindparam, select, text

from livebackend import models
from livebackend.core.errors import (
    BalanceLimitReached,
    RefillsDisabled,
    RequestIdReused,
    ServiceUnavailable,
)
from livebackend.database.engine import Database
from livebackend.ledger.coin_accounts import external_account
from livebackend.ledger.transfers import (
    CoinAccount,
    Transfer,
    TransferKind,
    TransferStatus,
    TransferSubmitter,
    client_request_id,
    new_request_id,
)
from livebackend.services.payment_orders import PaymentOrders, PlacedOrder
from livebackend.services.rate_limits import RateLimit, RateLimiter, account_subject

# The values of the setting `coins.refill`.
RefillMode = Literal["direct", "order", "disabled"]

# Timeout of a direct refill in seconds, including its database queries.
_TIMEOUT_S = 4

_FIND_COIN_ACCOUNT = select(models.CoinAccount.id).where(
    models.CoinAccount.owner_id == bindparam("account_id")
)
_REQUEST_EXISTS = text(
    """
    SELECT EXISTS (SELECT FROM transfers WHERE actor_id = :actor AND request_id = :request_id)
        OR EXISTS (SELECT FROM payment_orders WHERE request_id = :request_id)
    """
)


class Refills:
    """Sells coins through payment orders, or credits them directly for development.

    No database connection is held while the ledger or a provider handles a request.
    """

    def __init__(
        self,
        database: Database,
        writer: TransferSubmitter,
        orders: PaymentOrders,
        rate_limits: RateLimiter,
        *,
        mode: RefillMode,
        coins_per_yuan: int,
    ) -> None:
        self._database = database
        self._writer = writer
        self._orders = orders
        self._rate_limits = rate_limits
        self._mode = mode
        self._coins_per_yuan = coins_per_yuan

    def refill(self, account_id: int, *, yuan: int, request_id: str | None) -> PlacedOrder | None:
        """Credit the coins for `yuan`, or open an order; return the order, if any.

        Raises RateLimited, RefillsDisabled, RequestIdReused, BalanceLimitReached, LedgerBusy,
        PaymentNotPlaced, and ServiceUnavailable with the request id for the retry.
        """
        retry_id = request_id or new_request_id()
        is_retry = request_id is not None and self._request_exists(account_id, request_id)
        if self._mode == "disabled" and not is_retry:
            raise RefillsDisabled
        self._rate_limits.consume(
            RateLimit("refill_retries" if is_retry else "refill", account_subject(account_id))
        )
        try:
            # A retry gets the result of the first request, even if the mode has changed since.
            if self._mode == "order" or is_retry:
                return self._orders.open(
                    account_id, yuan=yuan, coins=yuan * self._coins_per_yuan, request_id=retry_id
                )
            self._credit(account_id, yuan * self._coins_per_yuan, retry_id)
        except ServiceUnavailable as error:
            error.retry_request_id = retry_id
            raise
        return None

    def _request_exists(self, account_id: int, request_id: str) -> bool:
        """Return whether this request id has a transfer or an order."""

        def find_request(connection: Connection) -> bool:
            actor_id = connection.execute(
                _FIND_COIN_ACCOUNT, {"account_id": account_id}
            ).scalar_one()
            values = {"actor": actor_id, "request_id": client_request_id(actor_id, request_id)}
            return bool(connection.execute(_REQUEST_EXISTS, values).scalar_one())

        return self._database.run_autocommit(find_request)

    def _credit(self, account_id: int, coins: int, request_id: str) -> None:
        deadline = time.monotonic() + _TIMEOUT_S

        def find_accounts(connection: Connection) -> tuple[int, int]:
            account = connection.execute(
                _FIND_COIN_ACCOUNT, {"account_id": account_id}
            ).scalar_one()
            return account, external_account(connection, "direct")

        account, provider_account = self._database.run(find_accounts)
        transfer = Transfer(
            kind=TransferKind.REFILL,
            actor_id=account,
            debit=CoinAccount(provider_account, external=True),
            credit=CoinAccount(account),
            amount=coins,
            request_id=client_request_id(account, request_id),
        )
        status = self._writer.submit(transfer, deadline=deadline).status
        if status is TransferStatus.CONFLICT:
            raise RequestIdReused
        if status is TransferStatus.BALANCE_LIMIT:
            raise BalanceLimitReached
