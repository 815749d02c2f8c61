"""Authentication by password, with rate limits of attempts and password hashes."""

from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from livebackend import models
from livebackend.core.errors import RateLimited, UnknownUser, WrongPassword
from livebackend.database.engine import Database
from livebackend.database.prepared_statements import PreparedStatement
from livebackend.services.login_addresses import LoginAddresses
from livebackend.services.login_tokens import CURRENT_USER_COLUMNS, CurrentUser
from livebackend.services.password_hashing import PasswordHashing, hash_limits
from livebackend.services.rate_limits import RateLimit, RateLimiter

_ACCOUNT_BY_PHONE = PreparedStatement(
    select(
        *CURRENT_USER_COLUMNS,
        models.Account.password_hash,
        models.Account.disabled_at,
        models.LoginAddresses.digests.label("address_digests"),
    )
    .outerjoin(models.LoginAddresses, models.LoginAddresses.account_id == models.Account.id)
    .where(models.Account.phone == bindparam("phone"))
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

    Failed attempts count for the client address, and for the pair of account and client address.
    All attempts from addresses from which the account has not logged in before count together for
    the account. So an attacker cannot lock out a user who logs in from their usual address. When a
    rate limit is reached, the right password is rejected too.
    """

    def __init__(
        self,
        database: Database,
        password_hashing: PasswordHashing,
        rate_limits: RateLimiter,
        login_addresses: LoginAddresses,
    ) -> None:
        self._database = database
        self._password_hashing = password_hashing
        self._rate_limits = rate_limits
        self._login_addresses = login_addresses

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
        row: Any = self._database.run_autocommit(
            lambda connection: _ACCOUNT_BY_PHONE.first(connection, {"phone": phone})
        )
        is_known_address = row is not None and self._login_addresses.is_known(
            row.address_digests, account_id=row.id, address=address
        )
        failure_limits = _failure_limits(phone=phone, address=address)
        limits = [
            *(limit._replace(counted=False) for limit in failure_limits),
            *hash_limits(account=f"{phone} {address}", address=address),
        ]
        if not is_known_address:
            limits.append(RateLimit("login_new_addresses", phone))
        new_hash = None
        try:
            with self._password_hashing.acquire(
                *limits, client=address, is_known_client=is_known_address
            ) as hasher:
                is_right_password = hasher.verify(password, row.password_hash if row else None)
                if is_right_password and hasher.needs_rehash(row.password_hash):
                    new_hash = hasher.hash(password)
        except RateLimited:
            # The response must not reveal that the password was not checked.
            raise WrongPassword from None
        if not is_right_password:
            self._rate_limits.try_consume(*failure_limits)
        if row is None:
            return None
        if not is_right_password or row.disabled_at:
            raise WrongPassword
        self._store_login(row, address=address, new_hash=new_hash)
        return CurrentUser(row.id, row.phone, row.token_version)

    def _store_login(self, row: Any, *, address: str, new_hash: str | None) -> None:
        """Store the address of a successful login and the new hash, if they have changed."""

        def store(connection: Connection) -> None:
            if not is_latest_address:
                self._login_addresses.add(connection, account_id=row.id, address=address)
            if new_hash:
                connection.execute(
                    _REPLACE_HASH,
                    {"account_id": row.id, "old_hash": row.password_hash, "new_hash": new_hash},
                )

        is_latest_address = self._login_addresses.is_latest(
            row.address_digests, account_id=row.id, address=address
        )
        if new_hash or not is_latest_address:
            self._database.run_autocommit(store)


def _failure_limits(*, phone: str, address: str) -> tuple[RateLimit, RateLimit]:
    return (
        RateLimit("login_address", address),
        RateLimit("login_account", f"{phone} {address}"),
    )
