"""Accounts: registering, logging in, and who is who."""

from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from livebackend.db import Database
from livebackend.models import accounts
from livebackend.results import Failure, Reason, Result
from livebackend.services import codes, ledger, pictures
from livebackend.services.passwords import Passwords


class Account(NamedTuple):
    """Whoever makes a call."""

    id: int
    phone: str
    token_version: int


class Profile(NamedTuple):
    """What others may see of an account."""

    phone: str
    nickname: str | None
    gender: str | None
    head_image: str | None


PROFILE = (accounts.c.phone, accounts.c.nickname, accounts.c.gender, accounts.c.head_image)

_IDENTITY = (accounts.c.id, accounts.c.phone, accounts.c.token_version)
_BY_ID = select(*_IDENTITY).where(accounts.c.id == bindparam("id"))
_TO_LOG_IN = select(*_IDENTITY, accounts.c.password_hash).where(
    accounts.c.phone == bindparam("phone")
)
_ID_OF_PHONE = select(accounts.c.id).where(accounts.c.phone == bindparam("phone"))
_ADD = insert(accounts).on_conflict_do_nothing().returning(accounts.c.id)


def find_account(connection: Connection, account_id: int) -> Account | None:
    row = connection.execute(_BY_ID, {"id": account_id}).one_or_none()
    return Account(*row) if row else None


def find_id(connection: Connection, phone: str) -> int | None:
    """The account that a phone is registered for."""
    return connection.execute(_ID_OF_PHONE, {"phone": phone}).scalar_one_or_none()


class Accounts:
    """Registers and logs in. No connection is held while a password is hashed."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        *,
        verified_phone_required: bool,
        only_our_pictures: bool,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._verified_phone_required = verified_phone_required
        self._only_our_pictures = only_our_pictures

    def register(
        self,
        *,
        phone: str,
        password: str,
        nickname: str | None,
        gender: str | None,
        head_image: str | None,
    ) -> None:
        """Opens an account with no coins, and uses up the phone's verification.

        Fails with: the refusal code, for a phone that is taken or (if required) unverified, and (if
        it must be ours) for a picture that is none of ours or somebody's.
        """

        # Checked twice: before the hash, to spare it, and with the write, to be sure.
        self._database.run(partial(self._check, phone=phone))
        account = {
            "phone": phone,
            "password_hash": self._passwords.hash(password),
            "nickname": nickname,
            "gender": gender,
            "head_image": head_image,
        }
        self._database.run(partial(self._add, account=account))

    def log_in(self, *, phone: str, password: str) -> Account:
        """Whose phone and password these are.

        Fails with: NO_SUCH_USER, WRONG_PASSWORD; both take the same time.
        """
        row = self._database.run(
            lambda connection: connection.execute(_TO_LOG_IN, {"phone": phone}).one_or_none()
        )
        matches = self._passwords.match(password, row.password_hash if row else None)
        if row is None:
            raise Failure(Result.NO_SUCH_USER, "userId", Reason.UNKNOWN)
        if not matches:
            raise Failure(Result.WRONG_PASSWORD, "password", Reason.WRONG)
        return Account(row.id, row.phone, row.token_version)

    def _check(self, connection: Connection, *, phone: str) -> None:
        if find_id(connection, phone) is not None:
            raise Failure(None, "userId", Reason.TAKEN)
        if self._verified_phone_required and not codes.is_verified(connection, phone):
            raise Failure(None, "userId", Reason.UNVERIFIED)

    def _add(self, connection: Connection, *, account: dict[str, str | None]) -> None:
        verified = codes.use_verification(connection, str(account["phone"]))
        if self._verified_phone_required and not verified:
            raise Failure(None, "userId", Reason.UNVERIFIED)
        account_id = connection.execute(_ADD, account).scalar_one_or_none()
        if account_id is None:
            raise Failure(None, "userId", Reason.TAKEN)
        ledger.open_account(connection, account_id)
        head_image = account["head_image"]
        if head_image:
            ours = pictures.claim(connection, location=head_image, account_id=account_id)
            if self._only_our_pictures and not ours:
                raise Failure(None, "headImage", Reason.UNKNOWN)
