"""Authentication by password, with rate limits for failed attempts."""

from typing import Any

from sqlalchemy import bindparam, select, update

from livebackend import models
from livebackend.core.errors import UnknownUser, WrongPassword
from livebackend.database.engine import Database
from livebackend.database.prepared_statements import PreparedStatement
from livebackend.services.login_tokens import CURRENT_USER_COLUMNS, CurrentUser
from livebackend.services.password_hashing import PasswordHashing
from livebackend.services.rate_limits import RateLimit, RateLimiter

_ACCOUNT_BY_PHONE = PreparedStatement(
    select(*CURRENT_USER_COLUMNS, models.Account.password_hash, models.Account.disabled_at).where(
        models.Account.phone == bindparam("phone")
    )
)
# The statement updates no row if a concurrent request has changed the password.
_REPLACE_HASH = (
    update(models.Account)
    .where(
        models.Account.id == bindparam("account_id"),
        models.Account.password_hash == bindparam("old_hash"),
    )
    .values(password_hash=bindparam("new_hash"))
)


class Authentication:
    """Checks passwords, outside of database transactions.

    Failed attempts count for the client address, and for the pair of account and client address, so
    that an attacker cannot lock out a user who logs in from another address. When a rate limit is
    reached, the right password is rejected too.
    """

    def __init__(
        self, database: Database, password_hashing: PasswordHashing, rate_limits: RateLimiter
    ) -> None:
        self._database = database
        self._password_hashing = password_hashing
        self._rate_limits = rate_limits

    def log_in(self, *, phone: str, password: str, address: str) -> CurrentUser:
        """Return the account with this phone and password.

        Raises UnknownUser and WrongPassword. A login with an unknown phone takes as long as one
        with a wrong password.
        """
        account = self._authenticate(phone=phone, password=password, address=address)
        if account is None:
            raise UnknownUser
        return account

    def reauthenticate(self, account: CurrentUser, *, password: str, address: str) -> None:
        """Check the password of a user who is logged in.

        Raises WrongPassword, also if the account was changed or removed since the request began.
        """
        if self._authenticate(phone=account.phone, password=password, address=address) != account:
            raise WrongPassword

    def _authenticate(self, *, phone: str, password: str, address: str) -> CurrentUser | None:
        """Return the account with this phone and password; None for an unknown phone.

        The check takes as long for an unknown phone as for a registered one. Raises WrongPassword.
        """
        limits = (
            RateLimit("login_address", address),
            RateLimit("login_account", f"{phone} {address}"),
        )
        self._raise_if_limited(*limits)
        row: Any = self._database.run_autocommit(
            lambda connection: _ACCOUNT_BY_PHONE.first(connection, {"phone": phone})
        )
        new_hash = None
        with self._password_hashing.acquire() as hasher:
            # The rate limits are checked again, because other failed attempts can be counted while
            # this attempt waits for the hasher.
            self._raise_if_limited(*limits)
            is_right_password = hasher.verify(password, row.password_hash if row else None)
            if not is_right_password:
                self._rate_limits.try_consume(*limits)
            elif hasher.needs_rehash(row.password_hash):
                new_hash = hasher.hash(password)
        if row is None:
            return None
        if not is_right_password or row.disabled_at:
            raise WrongPassword
        if new_hash:
            self._replace_hash(row, new_hash)
        return CurrentUser(row.id, row.phone, row.token_version)

    def _raise_if_limited(self, *limits: RateLimit) -> None:
        if self._rate_limits.is_exceeded(*limits):
            raise WrongPassword

    def _replace_hash(self, row: Any, new_hash: str) -> None:
        self._database.execute_one(
            _REPLACE_HASH, account_id=row.id, old_hash=row.password_hash, new_hash=new_hash
        )
