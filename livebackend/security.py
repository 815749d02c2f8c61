"""Login tokens, and who a request comes from."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from livebackend.request import Request
from livebackend.results import Failure, Reason, Result
from livebackend.services.accounts import Account, find_account

_LENGTH_MAX = 1024
_CLOCK_SKEW_S = 60


@dataclass(frozen=True)
class Claims:
    """What a login token says: whose it is, and the token version it was given out at."""

    account_id: int
    version: int


class LoginTokens:
    """Signs and reads login tokens. The newest of `keys` stands first and signs; all verify."""

    def __init__(self, keys: Sequence[str], *, clock: Callable[[], float]) -> None:
        self._serializer = URLSafeSerializer(
            list(reversed(keys)),  # itsdangerous signs with the last
            salt="livebackend.login",
            signer_kwargs={"digest_method": sha256},
        )
        self._clock = clock

    def issue(self, account: Account, *, lifetime_s: int) -> str:
        """A new token, valid for `lifetime_s` seconds; zero or less makes one that has expired."""
        now = int(self._clock())
        token: str | bytes = self._serializer.dumps(
            {
                "typ": "login",
                "sub": account.id,
                "v": account.token_version,
                "iat": now,
                "exp": now + lifetime_s,
                "jti": secrets.token_urlsafe(12),
            }
        )
        return token if isinstance(token, str) else token.decode()

    def read(self, token: object) -> Claims:
        """What a token says.

        Fails with: TOKEN_INVALID for anything we did not sign as a login token, TOKEN_EXPIRED.
        """
        if not token:
            raise Failure(Result.TOKEN_INVALID, "token", Reason.MISSING)
        if not isinstance(token, str) or len(token) > _LENGTH_MAX:
            raise invalid_token()
        try:
            claims: Any = self._serializer.loads(token)
        except BadData:
            raise invalid_token() from None
        match claims:
            case {"typ": "login", "sub": int(sub), "v": int(v), "iat": int(iat), "exp": int(exp)}:
                now = self._clock()
                # The clocks of two servers may differ; a token's own expiry is exact all the same.
                if iat > now + _CLOCK_SKEW_S:
                    raise invalid_token()
                if exp <= now:
                    raise Failure(Result.TOKEN_EXPIRED, "token", Reason.EXPIRED)
                return Claims(sub, v)
        raise invalid_token()


def invalid_token() -> Failure:
    return Failure(Result.TOKEN_INVALID, "token", Reason.WRONG)


def identify(request: Request) -> Account:
    """Whose call this is.

    Fails with: TOKEN_INVALID, TOKEN_EXPIRED.
    """
    claims = request.house.login_tokens.read(request.params.get("token"))
    find = partial(find_account, account_id=claims.account_id)
    account = find(request.db) if request.db else request.house.database.run(find)
    if account is None or account.token_version != claims.version:
        raise invalid_token()
    return account
