"""Accounts: how users register, change and remove them."""

from functools import partial
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from livebackend import models
from livebackend.core.errors import (
    AccountIsLive,
    AccountRemoved,
    PasswordChanged,
    PhoneNotVerified,
    PhoneTaken,
    UnknownPicture,
    WrongCode,
)
from livebackend.database.engine import Database
from livebackend.ledger.coin_accounts import open_account
from livebackend.services.avatars import Pictures
from livebackend.services.code_verifiers import Purpose
from livebackend.services.login_tokens import IDENTITY, Account
from livebackend.services.password_hashing import Passwords
from livebackend.services.verification_codes import Codes
from livebackend.services.verified_phones import forget_phone, is_verified, use_verification

Gender = Literal["0", "1"]


class Profile(NamedTuple):
    """What others may see of an account."""

    phone: str
    nickname: str | None
    gender: Gender | None
    head_image: str | None


PROFILE = (
    models.Account.phone,
    models.Account.nickname,
    models.Account.gender,
    models.Account.head_image,
)

_ID_OF_PHONE = select(models.Account.id).where(models.Account.phone == bindparam("phone"))
_ADD = insert(models.Account).on_conflict_do_nothing().returning(models.Account.id)
_SET_PASSWORD = (
    update(models.Account)
    .where(models.Account.disabled_at.is_(None))
    .values(
        password_hash=bindparam("new_hash"),
        # All tokens that were given out before end with the old password.
        token_version=models.Account.token_version + 1,
    )
    .returning(*IDENTITY)
)
_CHANGE_PASSWORD = _SET_PASSWORD.where(
    models.Account.id == bindparam("account_id"),
    models.Account.token_version == bindparam("version"),
)
_RESET_PASSWORD = _SET_PASSWORD.where(models.Account.phone == bindparam("of_phone"))
_MINE = (
    select(*PROFILE)
    .where(models.Account.id == bindparam("id"), models.Account.phone.is_not(None))
    .with_for_update()
)
_me: BindParameter[int] = bindparam("me")
_IS_LIVE = select(models.Room.id).where(
    models.Room.account_id == _me, models.Room.state != "closed"
)
_my_friendships = aliased(models.Friendship, name="mine")
_PART = [
    # Both rows of each: mine are found by the index, and each one's twin by its key.
    delete(models.Friendship).where(
        _my_friendships.account_id == _me,
        or_(
            and_(
                models.Friendship.account_id == _me,
                models.Friendship.friend_id == _my_friendships.friend_id,
            ),
            and_(
                models.Friendship.account_id == _my_friendships.friend_id,
                models.Friendship.friend_id == _me,
            ),
        ),
    ),
    delete(models.FriendRequest).where(
        or_(models.FriendRequest.applicant_id == _me, models.FriendRequest.addressee_id == _me)
    ),
    delete(models.Block).where(or_(models.Block.account_id == _me, models.Block.blocked_id == _me)),
    update(models.Room).where(models.Room.account_id == _me).values(title=None),
]
_LOCK = (
    select(models.Account.id)
    .where(models.Account.id == _me, models.Account.phone.is_not(None))
    .with_for_update()
)
_REMOVE = (
    update(models.Account)
    .where(models.Account.id == _me)
    .values(
        phone=None,
        password_hash="",  # no password has it
        nickname=None,
        gender=None,
        head_image=None,
        token_version=models.Account.token_version + 1,
        removed_at=func.now(),
    )
)


def find_id(connection: Connection, phone: str) -> int | None:
    """The account that a phone is registered for."""
    return connection.execute(_ID_OF_PHONE, {"phone": phone}).scalar_one_or_none()


class Accounts:
    """Opens, changes and removes accounts. No connection is held while a password is hashed."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        pictures: Pictures,
        codes: Codes,
        *,
        verified_phone_required: bool,
        only_our_pictures: bool,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._pictures = pictures
        self._codes = codes
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
        """Open an account without coins, and use up the verification of its phone number.

        Raises PasswordTooCommon, PhoneTaken, and depending on the settings PhoneNotVerified and
        UnknownPicture.
        """
        self._passwords.refuse_common(password, phone=phone)
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

    def change_password(self, account: Account, new: str) -> Account:
        """Set a new password and revoke all tokens; return the account with its new version.

        Raises PasswordTooCommon, and PasswordChanged if another request changed it.
        """
        self._passwords.refuse_common(new, phone=account.phone)
        row = self._database.execute_one(
            _CHANGE_PASSWORD,
            account_id=account.id,
            version=account.token_version,
            new_hash=self._passwords.hash(new),
        )
        if row is None:
            raise PasswordChanged
        return Account(*row)

    def reset_password(self, *, phone: str, ticket: str, code: str, new: str) -> None:
        """Set a new password with a code that was sent for it, and revoke all tokens.

        Raises PasswordTooCommon, WrongCode and TooManyAttempts.
        """
        self._passwords.refuse_common(new, phone=phone)
        values = {"of_phone": phone, "new_hash": self._passwords.hash(new)}

        def work(connection: Connection) -> None:
            self._codes.verify(
                connection, ticket=ticket, code=code, purpose=Purpose.RESET, phone=phone
            )
            if connection.execute(_RESET_PASSWORD, values).rowcount == 0:
                raise WrongCode  # the account was removed since the code was sent

        self._database.run(work)

    def change_profile(
        self,
        account: Account,
        *,
        nickname: str | None = None,
        gender: str | None = None,
        head_image: str | None = None,
    ) -> Profile:
        """Change what is not None; return the whole profile.

        Raises UnknownPicture depending on the settings, and AccountRemoved.
        """

        given = {"nickname": nickname, "gender": gender, "head_image": head_image}
        changed = {name: value for name, value in given.items() if value is not None}

        def work(connection: Connection) -> tuple[Profile, list[str]]:
            before = connection.execute(_MINE, {"id": account.id}).one_or_none()
            if before is None:
                raise AccountRemoved
            gone: list[str] = []
            new_picture = changed.get("head_image", before.head_image)
            if new_picture != before.head_image:
                self._claim(connection, new_picture, account.id)
                gone = self._pictures.disown(connection, account.id, but=new_picture)
            if changed:
                connection.execute(
                    update(models.Account).where(models.Account.id == account.id).values(changed)
                )
            return Profile._make(connection.execute(_MINE, {"id": account.id}).one()), gone

        profile, gone = self._database.run(work)
        self._pictures.remove(gone)
        return profile

    def remove(self, account: Account) -> None:
        """Remove an account: phone number, name, friends, messages and pictures.

        Its transfers stay in the ledger, without a name. Raises AccountIsLive and AccountRemoved.
        """

        def work(connection: Connection) -> list[str]:
            mine = {"me": account.id}
            if connection.execute(_LOCK, mine).one_or_none() is None:
                raise AccountRemoved  # removed at this very moment
            if connection.execute(_IS_LIVE, mine).first():
                raise AccountIsLive
            for statement in _PART:
                connection.execute(statement, mine)
            forget_phone(connection, account.phone)
            gone = self._pictures.disown(connection, account.id)
            connection.execute(_REMOVE, mine)
            return gone

        self._pictures.remove(self._database.run(work))

    def _check(self, connection: Connection, *, phone: str) -> None:
        if find_id(connection, phone) is not None:
            raise PhoneTaken
        if self._verified_phone_required and not is_verified(connection, phone):
            raise PhoneNotVerified

    def _add(self, connection: Connection, *, account: dict[str, Any]) -> None:
        verified = use_verification(connection, account["phone"])
        if self._verified_phone_required and not verified:
            raise PhoneNotVerified
        account_id = connection.execute(_ADD, account).scalar_one_or_none()
        if account_id is None:
            raise PhoneTaken
        open_account(connection, account_id)
        if account["head_image"]:
            self._claim(connection, account["head_image"], account_id)

    def _claim(self, connection: Connection, location: str, account_id: int) -> None:
        ours = self._pictures.claim(connection, location=location, account_id=account_id)
        if self._only_our_pictures and not ours:
            raise UnknownPicture
