"""Gifts: transfers of coins from a user to a host."""

import time
import uuid
from typing import Any

from sqlalchemy import Connection, and_, join, select, text
from sqlalchemy.orm import aliased

from livebackend import models
from livebackend.core.errors import (
    BalanceLimitReached,
    InsufficientCoins,
    OwnAccount,
    RateLimited,
    RequestIdReused,
    ServiceUnavailable,
    TokenInvalid,
    UnknownUser,
)
from livebackend.database.engine import Database, require_replication
from livebackend.database.rate_limit_counters import CountingStatement
from livebackend.ledger.transfers import (
    CoinAccount,
    Gift,
    Transfer,
    TransferKind,
    TransferStatus,
    TransferSubmitter,
    client_request_id,
    new_request_id,
)
from livebackend.services.login_tokens import TOKEN_OWNER, TokenClaims
from livebackend.services.rate_limits import RateLimit, RateLimiter, account_subject

# Timeout of `Gifts.send` in seconds, including its database queries.
_TIMEOUT_S = 4

_giver = TOKEN_OWNER.cte("me")
_debit_account = aliased(models.CoinAccount, name="debit")
_credit_account = aliased(models.CoinAccount, name="credit")
_host_and_room = join(
    models.Account, _credit_account, _credit_account.owner_id == models.Account.id
).outerjoin(models.Room, and_(models.Room.account_id == models.Account.id, models.room_is_open))
# Authenticates the login token, finds both coin accounts and counts the gift in one statement. The
# statement returns no row if the token is invalid, and NULL as `credit_id` if the host is unknown;
# the gift then counts against the limit of unknown users too.
_COIN_ACCOUNTS = CountingStatement(
    select(
        _debit_account.id.label("debit_id"),
        _credit_account.id.label("credit_id"),
        models.Account.id.label("host_id"),
        models.Room.id.label("room_id"),
    ).select_from(
        _giver.join(_debit_account, _debit_account.owner_id == _giver.c.id).outerjoin(
            _host_and_room, models.account_has_user_id
        )
    ),
    counts_all_if_null="credit_id",
)
_GIFT_EXISTS = text("SELECT id FROM transfers WHERE actor_id = :actor AND request_id = :request_id")
_GIFT_TO_REMOVED_HOST = text(
    """
    SELECT transfers.id FROM transfers JOIN gifts ON gifts.transfer_id = transfers.id
    JOIN accounts ON accounts.id = gifts.host_id
    WHERE actor_id = :actor AND request_id = :request_id AND amount = :coins
        AND description = :description AND accounts.removed_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM accounts AS other
            WHERE (phone = :host OR public_id = :host)
                AND other.created_at <= transfers.created_at)
    """
)

_ERRORS = {
    TransferStatus.INSUFFICIENT_COINS: InsufficientCoins,
    TransferStatus.BALANCE_LIMIT: BalanceLimitReached,
    TransferStatus.CONFLICT: RequestIdReused,
}


class Gifts:
    """Sends gifts. No database connection is held while the ledger posts the transfer."""

    def __init__(
        self,
        database: Database,
        writer: TransferSubmitter,
        rate_limits: RateLimiter,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._database = database
        self._writer = writer
        self._rate_limits = rate_limits
        self._timeout_s = timeout_s

    def send(
        self,
        claims: TokenClaims,
        *,
        host: str,
        coins: int,
        description: str,
        request_id: str | None,
    ) -> None:
        """Transfer coins to the host with the phone number or public id `host`.

        The host can be offline. A retry of a posted gift moves no coins. Raises TokenInvalid for a
        revoked token, RateLimited, UnknownUser, OwnAccount, RequestIdReused, InsufficientCoins,
        BalanceLimitReached, LedgerBusy, and ServiceUnavailable with the request id for the retry.
        """
        retry_id = request_id or new_request_id()
        try:
            self._send(claims, host, coins, description, retry_id)
        except ServiceUnavailable as error:
            error.retry_request_id = retry_id
            raise

    def _send(
        self, claims: TokenClaims, host: str, coins: int, description: str, request_id: str
    ) -> None:
        deadline = time.monotonic() + self._timeout_s
        coin_accounts, rate_limited = self._find_coin_accounts(claims, host)
        if coin_accounts is None:
            raise TokenInvalid
        key = client_request_id(coin_accounts.debit_id, request_id)
        if rate_limited:
            self._count_retry(rate_limited, coin_accounts.debit_id, key, claims.account_id)
        if coin_accounts.credit_id is None:
            if self._was_given_to_removed_host(
                coin_accounts.debit_id, key, host, coins, description
            ):
                return
            raise UnknownUser
        if coin_accounts.debit_id == coin_accounts.credit_id:
            raise OwnAccount
        transfer = Transfer(
            kind=TransferKind.GIFT,
            actor_id=coin_accounts.debit_id,
            debit=CoinAccount(coin_accounts.debit_id),
            credit=CoinAccount(coin_accounts.credit_id),
            amount=coins,
            request_id=key,
            gift=Gift(coin_accounts.host_id, coin_accounts.room_id, description),
        )
        status = self._writer.submit(transfer, deadline=deadline).status
        # A retry has the status CONFLICT if another account registered the host's phone meanwhile.
        if status is TransferStatus.CONFLICT and self._was_given_to_removed_host(
            coin_accounts.debit_id, key, host, coins, description
        ):
            return
        if error := _ERRORS.get(status):
            raise error

    def _find_coin_accounts(self, claims: TokenClaims, host: str) -> tuple[Any, RateLimited | None]:
        """Return a row with both coin accounts, and the error if a rate limit is reached.

        The row is None for a revoked token. When the limit of unknown users is reached, a gift to a
        known user is refused too, because its response would reveal the account.
        """
        subject = account_subject(claims.account_id)
        limits = (
            RateLimit("gifts", subject),
            RateLimit("unknown_users", subject, counted=False),
        )
        values = claims.values | {"user_id": host}
        if self._rate_limits.has_rules(*limits):
            return self._rate_limits.select_and_consume(_COIN_ACCOUNTS, values, *limits)
        # Nothing is counted, so the larger pool of the operations is used.
        row = self._database.run_autocommit(
            lambda connection: _COIN_ACCOUNTS.first(connection, values)
        )
        return row, None

    def _count_retry(
        self, rate_limited: RateLimited, actor_id: int, key: uuid.UUID, account_id: int
    ) -> None:
        """Count a retry of a posted gift; raise `rate_limited` for any other gift.

        A retry is not refused by the limits of gifts, but by `gift_retries`.
        """
        values = {"actor": actor_id, "request_id": key}
        is_retry = self._database.run_autocommit(
            lambda connection: connection.execute(_GIFT_EXISTS, values).first() is not None
        )
        if not is_retry:
            raise rate_limited
        self._rate_limits.consume(RateLimit("gift_retries", account_subject(account_id)))

    def _was_given_to_removed_host(
        self, actor_id: int, key: uuid.UUID, host: str, coins: int, description: str
    ) -> bool:
        """Return whether the same gift was sent to a host whose account is removed.

        A removed account has no phone number, and a new public id. So the query compares the other
        values of the gift, and checks that no account with this phone number or public id is older
        than the gift.
        """
        values = {
            "actor": actor_id,
            "request_id": key,
            "host": host,
            "coins": coins,
            "description": description,
        }

        def gift_exists(connection: Connection) -> bool:
            if connection.execute(_GIFT_TO_REMOVED_HOST, values).first() is None:
                return False
            require_replication(connection)
            return True

        return self._database.run(gift_exists)
