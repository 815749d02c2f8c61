"""Login tokens, and who a request comes from."""

import secrets
from collections.abc import Callable, Sequence
from math import ceil

from livebackend.core.errors import TokenExpired, TokenInvalid, TokenMissing
from livebackend.core.signing import Signer
from livebackend.services.accounts import Account, Claims

_CLOCK_SKEW_S = 60
_DAY_S = 24 * 3600
_DEFAULT_S, _MAX_S = 7 * _DAY_S, 30 * _DAY_S


class LoginTokens:
    """Signs and reads login tokens."""

    def __init__(self, keys: Sequence[str], *, clock: Callable[[], float]) -> None:
        self._signer = Signer(keys, kind="login")
        self._clock = clock

    def issue(self, account: Account, *, lifetime_s: int | None = None) -> str:
        """Return a new token, valid for `lifetime_s` seconds: 7 days by default, at most 30 days.

        With zero or less, the token has expired.
        """
        now = self._clock()
        lifetime_s = min(_DEFAULT_S if lifetime_s is None else lifetime_s, _MAX_S)
        return self._signer.sign(
            {
                "typ": "login",
                "sub": account.id,
                "v": account.token_version,
                "iat": int(now),
                # Not a moment less than was asked for.
                "exp": ceil(now) + lifetime_s if lifetime_s > 0 else int(now),
                "jti": secrets.token_urlsafe(12),
            }
        )

    def read(self, token: object) -> Claims:
        """Return the claims of a token.

        Raises TokenMissing, TokenInvalid for anything that was not signed here as a login token,
        and TokenExpired.
        """
        if not token:
            raise TokenMissing
        match self._signer.read(token):
            case {
                "typ": "login",
                "jti": str(jti),
                "sub": int(sub),
                "v": int(v),
                "iat": int(iat),
                "exp": int(exp),
            }:
                now = self._clock()
                # The clocks of two servers may differ; a token's own expiry is exact all the same.
                if iat > now + _CLOCK_SKEW_S:
                    raise TokenInvalid
                if exp <= now:
                    raise TokenExpired
                return Claims(jti, sub, v, exp)
        raise TokenInvalid
