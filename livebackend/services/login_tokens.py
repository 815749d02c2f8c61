"""Login tokens: issuing, verification, lookup of the account, revocation."""

import secrets
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from livebackend import models
from livebackend.core.errors import TokenExpired, TokenInvalid, TokenMissing
from livebackend.core.signing import Signer
from livebackend.database.rate_limit_counters import CountingStatement
from livebackend.events.declarations import EventType
from livebackend.events.outbox import Outbox
from livebackend.services.rate_limits import RateLimit, RateLimiter

# The names of the claims in a token, in the order of the fields of TokenClaims, and their types.
_CLAIMS, _CLAIM_TYPES = ("jti", "sub", "v", "exp"), (str, int, int, int)
_DAY_S = 24 * 3600
_DEFAULT_LIFETIME_S, _MAX_LIFETIME_S = 7 * _DAY_S, 30 * _DAY_S


class TokenClaims(NamedTuple):
    """The content of a login token; `version` is the token version of the account."""

    token_id: str
    account_id: int
    version: int
    # The time at which the token expires, in seconds since 1970 UTC.
    expires_at: int

    @property
    def values(self) -> dict[str, Any]:
        """The SQL parameters of the statement TOKEN_OWNER."""
        return {
            "token_id": self.token_id,
            "account_id": self.account_id,
            "version": self.version,
        }


class CurrentUser(NamedTuple):
    """The account that a login token identifies."""

    id: int
    phone: str
    token_version: int


CURRENT_USER_COLUMNS = (models.Account.id, models.Account.phone, models.Account.token_version)

# The statement selects the account of a login token. It returns no row if a logout or a new
# password revoked the token, or if the account is removed or disabled.
TOKEN_OWNER = select(*CURRENT_USER_COLUMNS).where(
    models.Account.id == bindparam("account_id"),
    models.Account.token_version == bindparam("version"),
    models.Account.phone.is_not(None),
    models.Account.disabled_at.is_(None),
    ~select(models.RevokedToken.token_id)
    .where(models.RevokedToken.token_id == bindparam("token_id"))
    .exists(),
)
_IDENTIFY = CountingStatement(TOKEN_OWNER)
_REVOKE = (
    insert(models.RevokedToken)
    .values(token_id=bindparam("token_id"), expires_at=func.to_timestamp(bindparam("expires_at")))
    .on_conflict_do_nothing()
)


class LoginTokens:
    """Issues, verifies and revokes login tokens, and looks up their accounts."""

    def __init__(self, keys: Sequence[str], *, clock: Callable[[], float]) -> None:
        self._signer = Signer(keys, kind="login")
        self._clock = clock

    def issue(self, account: CurrentUser, *, lifetime_s: int | None = None) -> str:
        """Return a new token; the lifetime is 7 days by default, 30 days at most.

        If `lifetime_s` is zero or negative, the token has already expired.
        """
        now = self._clock()
        lifetime_s = min(_DEFAULT_LIFETIME_S if lifetime_s is None else lifetime_s, _MAX_LIFETIME_S)
        return self._signer.sign(
            {
                "typ": "login",
                "sub": account.id,
                "v": account.token_version,
                # The issue time is not checked, because the clocks of two servers can differ.
                # Release 0.2 requires it.
                "iat": int(now),
                # The expiry is rounded up, so that the token is valid for its full lifetime.
                "exp": ceil(now) + lifetime_s if lifetime_s > 0 else int(now),
                "jti": secrets.token_urlsafe(12),
            }
        )

    def read(self, token: object) -> TokenClaims:
        """Verify the signature and the expiry of a token; return its claims.

        Does not check whether the token is revoked. Raises TokenMissing, TokenInvalid and
        TokenExpired.
        """
        if not token:
            raise TokenMissing
        signed_value = self._signer.read(token)
        if not isinstance(signed_value, dict) or signed_value.get("typ") != "login":
            raise TokenInvalid
        # Faster than a `match` statement with class patterns: 1 µs instead of 4 µs.
        claims = TokenClaims._make(map(signed_value.get, _CLAIMS))
        if tuple(map(type, claims)) != _CLAIM_TYPES:
            raise TokenInvalid
        if claims.expires_at <= self._clock():
            raise TokenExpired
        return claims

    def identify(self, connection: Connection, claims: TokenClaims) -> CurrentUser:
        """Return the account of a login token. Raises TokenInvalid for a revoked token."""
        row = _IDENTIFY.first(connection, claims.values)
        if row is None:
            raise TokenInvalid
        return CurrentUser(*row)

    def identify_and_count(
        self, rate_limits: RateLimiter, claims: TokenClaims, *limits: RateLimit
    ) -> CurrentUser:
        """Return the account of a login token, and count its request; in one statement.

        Raises TokenInvalid for a revoked token, which is not counted, and RateLimited.
        """
        row, error = rate_limits.select_and_consume(_IDENTIFY, claims.values, *limits)
        if row is None:
            raise TokenInvalid
        if error:
            raise error
        return CurrentUser(row.id, row.phone, row.token_version)

    def revoke(self, connection: Connection, outbox: Outbox, claims: TokenClaims) -> None:
        """Revoke one login token before it expires."""
        outbox.append(connection, EventType.LOGIN_REVOKED, account_id=claims.account_id)
        connection.execute(_REVOKE, {"token_id": claims.token_id, "expires_at": claims.expires_at})
