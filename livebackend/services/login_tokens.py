"""Login tokens, and who a request comes from."""

import secrets
from collections.abc import Callable, Sequence
from math import ceil

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import Failure
from livebackend.api.result_codes import Result
from livebackend.core.signing import Signer
from livebackend.services.accounts import Account, Claims

_CLOCK_SKEW_S = 60


class LoginTokens:
    """Signs and reads login tokens."""

    def __init__(self, keys: Sequence[str], *, clock: Callable[[], float]) -> None:
        self._signer = Signer(keys, kind="login")
        self._clock = clock

    def issue(self, account: Account, *, lifetime_s: int) -> str:
        """A new token, valid for `lifetime_s` seconds; zero or less makes one that has expired."""
        now = self._clock()
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
        """What a token says.

        Fails with: TOKEN_INVALID for anything we did not sign as a login token, TOKEN_EXPIRED.
        """
        if not token:
            raise Failure(Result.TOKEN_INVALID, "token", Reason.MISSING)
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
                    raise _invalid()
                if exp <= now:
                    raise Failure(Result.TOKEN_EXPIRED, "token", Reason.EXPIRED)
                return Claims(jti, sub, v, exp)
        raise _invalid()


def _invalid() -> Failure:
    return Failure(Result.TOKEN_INVALID, "token", Reason.WRONG)
