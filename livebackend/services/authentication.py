"""Who is who: judging a password, and slowing down whoever guesses."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update

from livebackend import models
from livebackend.api.error_reasons import Reason
from livebackend.api.errors import Failure
from livebackend.api.result_codes import Result
from livebackend.database.engine import Database
from livebackend.database.prepared_statements import Prepared
from livebackend.services.accounts import IDENTITY, Account
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
    """Judges passwords. No connection is held while one is hashed.

    Failures are counted for the pair of account and address, and for the address alone; so nobody
    can lock another out. Whoever is over a limit reads what a wrong password reads.
    """

    def __init__(self, database: Database, passwords: Passwords, limits: Limits) -> None:
        self._database = database
        self._passwords = passwords
        self._limits = limits

    def log_in(self, *, phone: str, password: str, address: str) -> Account:
        """Whose phone and password these are.

        Fails with: NO_SUCH_USER, WRONG_PASSWORD, after the same time.
        """
        account = self._judged(phone=phone, password=password, address=address)
        if account is None:
            raise Failure(Result.NO_SUCH_USER, "userId", Reason.UNKNOWN)
        return account

    def confirm(self, account: Account, *, password: str, address: str) -> None:
        """Asks somebody who is logged in for his password again. Fails with: WRONG_PASSWORD."""
        if self._judged(phone=account.phone, password=password, address=address) != account:
            raise _wrong()  # or the account ended or changed at this very moment

    def _judged(self, *, phone: str, password: str, address: str) -> Account | None:
        """Whose phone and password these are; None, as late, for nobody's phone.

        Fails with: WRONG_PASSWORD.
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
            raise _wrong()
        if new_hash:
            self._replace_hash(row, new_hash)
        return Account(row.id, row.phone, row.token_version)

    def _refuse_guesser(self, counts: Mapping[str, str]) -> None:
        if any(self._limits.is_full(limit, who) for limit, who in counts.items()):
            raise _wrong()

    def _replace_hash(self, row: Any, new_hash: str) -> None:
        values = {
            "account_id": row.id,
            "judged_hash": row.password_hash,
            "new_hash": new_hash,
        }
        self._database.run(lambda connection: connection.execute(_REPLACE_HASH, values).rowcount)


def _wrong() -> Failure:
    return Failure(Result.WRONG_PASSWORD, "password", Reason.WRONG)
