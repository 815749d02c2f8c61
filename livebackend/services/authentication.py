"""Who is who: judging a password, and slowing down whoever guesses."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update

from livebackend import models
from livebackend.core.errors import UnknownUser, WrongPassword
from livebackend.database.engine import Database
from livebackend.database.prepared_statements import Prepared
from livebackend.services.login_tokens import IDENTITY, Account
from livebackend.services.password_hashing import Passwords
from livebackend.services.rate_limits import Limits

_TO_LOG_IN = Prepared(
    select(*IDENTITY, models.Account.password_hash, models.Account.disabled_at).where(
        models.Account.phone == bindparam("phone")
    )
)
# Only over the hash that was judged: a password that was changed meanwhile stays changed.
_REPLACE_HASH = (
    update(models.Account)
    .where(
        models.Account.id == bindparam("account_id"),
        models.Account.password_hash == bindparam("judged_hash"),
    )
    .values(password_hash=bindparam("new_hash"))
)


class Logins:
    """Checks passwords. No connection is held while a password is hashed.

    Failures are counted for the pair of account and client address, and for the address alone, so
    that a client cannot lock out the users of other addresses. Over a limit, even the right
    password is refused.
    """

    def __init__(self, database: Database, passwords: Passwords, limits: Limits) -> None:
        self._database = database
        self._passwords = passwords
        self._limits = limits

    def log_in(self, *, phone: str, password: str, address: str) -> Account:
        """Return the account with this phone and password.

        Raises UnknownUser and WrongPassword, after the same time.
        """
        account = self._judged(phone=phone, password=password, address=address)
        if account is None:
            raise UnknownUser
        return account

    def confirm(self, account: Account, *, password: str, address: str) -> None:
        """Check the password of a user who is logged in. Raises WrongPassword."""
        if self._judged(phone=account.phone, password=password, address=address) != account:
            raise WrongPassword  # or the account ended or changed at this very moment

    def _judged(self, *, phone: str, password: str, address: str) -> Account | None:
        """Return the account with this phone and password; None, as late, for an unknown phone.

        Raises WrongPassword.
        """
        counts = {"login_address": address, "login_account": f"{phone} {address}"}
        self._refuse_guesser(counts)
        row: Any = self._database.singly(
            lambda connection: _TO_LOG_IN.first(connection, {"phone": phone})
        )
        new_hash = None
        with self._passwords.turn() as hasher:
            # Again: of a crowd of guesses, those before this one are counted by now.
            self._refuse_guesser(counts)
            right = hasher.match(password, row.password_hash if row else None)
            if not right:
                for limit, who in counts.items():
                    self._limits.allows(limit, who)
            elif hasher.is_cheap(row.password_hash):
                new_hash = hasher.hash(password)
        if row is None:
            return None
        if not right or row.disabled_at:
            raise WrongPassword
        if new_hash:
            self._replace_hash(row, new_hash)
        return Account(row.id, row.phone, row.token_version)

    def _refuse_guesser(self, counts: Mapping[str, str]) -> None:
        if any(self._limits.is_full(limit, who) for limit, who in counts.items()):
            raise WrongPassword

    def _replace_hash(self, row: Any, new_hash: str) -> None:
        self._database.execute_one(
            _REPLACE_HASH, account_id=row.id, judged_hash=row.password_hash, new_hash=new_hash
        )
