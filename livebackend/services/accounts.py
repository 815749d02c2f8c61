"""User accounts: registration, password and profile changes, removal."""

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
    text,
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
from livebackend.events.declarations import EventType
from livebackend.events.outbox import Outbox
from livebackend.ledger.coin_accounts import open_account
from livebackend.services.avatars import Avatars
from livebackend.services.code_verifiers import Purpose
from livebackend.services.kept_blocks import KeptBlocks
from livebackend.services.login_addresses import LoginAddresses
from livebackend.services.login_tokens import CURRENT_USER_COLUMNS, CurrentUser
from livebackend.services.password_hashing import PasswordHashing, hash_limits
from livebackend.services.verification_codes import VerificationCodes
from livebackend.services.verified_phones import (
    VerifiedPhones,
    delete_codes,
    use_verification,
)

Gender = Literal["0", "1"]


class Profile(NamedTuple):
    """The public profile of an account."""

    phone: str
    nickname: str | None
    gender: Gender | None
    head_image: str | None


class OwnProfile(NamedTuple):
    """The profile of an account, as its user sees it."""

    profile: Profile
    # The id that other users see instead of the phone number.
    public_id: str


PROFILE_COLUMNS = (
    models.Account.phone,
    models.Account.nickname,
    models.Account.gender,
    models.Account.head_image,
)

_FIND_ACCOUNT_ID = select(models.Account.id).where(models.Account.phone == bindparam("phone"))
_INSERT_ACCOUNT = insert(models.Account).on_conflict_do_nothing().returning(models.Account.id)
_SET_PASSWORD = (
    update(models.Account)
    .where(models.Account.disabled_at.is_(None))
    .values(
        password_hash=bindparam("new_hash"),
        # A new token version revokes all login tokens of the account.
        token_version=models.Account.token_version + 1,
    )
    .returning(*CURRENT_USER_COLUMNS)
)
_CHANGE_PASSWORD = _SET_PASSWORD.where(
    models.Account.id == bindparam("account_id"),
    models.Account.token_version == bindparam("version"),
)
_RESET_PASSWORD = _SET_PASSWORD.where(models.Account.phone == bindparam("of_phone"))
_LOCK_PROFILE = (
    select(*PROFILE_COLUMNS, models.Account.public_id)
    .where(models.Account.id == bindparam("id"), models.Account.phone.is_not(None))
    .with_for_update()
)
_account_id: BindParameter[int] = bindparam("of_account")
_ROOM_NOT_CLOSED = select(models.Room.id).where(
    models.Room.account_id == _account_id, models.Room.state != "closed"
)
_own_friendships = aliased(models.Friendship, name="own_friendships")
_DELETE_RELATIONS = [
    # A friendship has two rows, and both are deleted. With the self-join, PostgreSQL finds the row
    # of the other user by its primary key.
    delete(models.Friendship).where(
        _own_friendships.account_id == _account_id,
        or_(
            and_(
                models.Friendship.account_id == _account_id,
                models.Friendship.friend_id == _own_friendships.friend_id,
            ),
            and_(
                models.Friendship.account_id == _own_friendships.friend_id,
                models.Friendship.friend_id == _account_id,
            ),
        ),
    ),
    delete(models.FriendRequest).where(
        or_(
            models.FriendRequest.applicant_id == _account_id,
            models.FriendRequest.addressee_id == _account_id,
        )
    ),
    delete(models.LoginAddresses).where(models.LoginAddresses.account_id == _account_id),
    update(models.Room).where(models.Room.account_id == _account_id).values(title=None),
]
_LOCK_ACCOUNT = (
    select(models.Account.id)
    .where(models.Account.id == _account_id, models.Account.phone.is_not(None))
    .with_for_update()
)
_MARK_REMOVED = (
    update(models.Account)
    .where(models.Account.id == _account_id)
    .values(
        phone=None,
        password_hash="",  # an empty hash matches no password
        nickname=None,
        gender=None,
        head_image=None,
        public_id=text("DEFAULT"),
        token_version=models.Account.token_version + 1,
        removed_at=func.now(),
    )
)


def find_account_id(connection: Connection, phone: str) -> int | None:
    """Return the id of the account with this phone number, or None."""
    return connection.execute(_FIND_ACCOUNT_ID, {"phone": phone}).scalar_one_or_none()


class Accounts:
    """Creates, changes and removes accounts.

    Passwords are hashed outside of database transactions.
    """

    def __init__(
        self,
        database: Database,
        password_hashing: PasswordHashing,
        avatars: Avatars,
        verification_codes: VerificationCodes,
        outbox: Outbox,
        *,
        verified_phones: VerifiedPhones,
        kept_blocks: KeptBlocks,
        login_addresses: LoginAddresses,
        require_verified_phone: bool,
        require_uploaded_pictures: bool,
    ) -> None:
        self._database = database
        self._password_hashing = password_hashing
        self._avatars = avatars
        self._verification_codes = verification_codes
        self._outbox = outbox
        self._verified_phones = verified_phones
        self._kept_blocks = kept_blocks
        self._login_addresses = login_addresses
        self._require_verified_phone = require_verified_phone
        self._require_uploaded_pictures = require_uploaded_pictures

    def register(
        self,
        *,
        phone: str,
        password: str,
        nickname: str | None,
        gender: str | None,
        head_image: str | None,
        address: str,
    ) -> None:
        """Create an account without coins, and mark the phone's verification as used.

        `address` is the client address. Raises PasswordTooCommon, RateLimited, PhoneNotVerified (if
        the settings require a verified phone), PhoneTaken and UnknownPicture (if the settings
        require an uploaded picture).
        """
        self._password_hashing.reject_common(password, phone=phone)
        # The phone is checked before the password hash, because hashing is slow. `_insert_account`
        # checks the phone again, in the transaction that inserts the account.
        is_registered = self._database.execute_one(_FIND_ACCOUNT_ID, phone=phone) is not None
        if self._require_verified_phone:
            self._verified_phones.check(phone, address=address, is_registered=is_registered)
        if is_registered:
            raise PhoneTaken
        account = {
            "phone": phone,
            "password_hash": self._hash(password, subject=f"register {phone}", address=address),
            "nickname": nickname,
            "gender": gender,
            "head_image": head_image,
        }
        self._database.run(partial(self._insert_account, account=account, address=address))

    def change_password(
        self, account: CurrentUser, new_password: str, *, address: str
    ) -> CurrentUser:
        """Set a new password and revoke all login tokens.

        Returns the account with its new token version. Raises PasswordTooCommon, RateLimited, and
        PasswordChanged if a concurrent request changed the password.
        """
        self._password_hashing.reject_common(new_password, phone=account.phone)
        values = {
            "account_id": account.id,
            "version": account.token_version,
            "new_hash": self._hash(
                new_password, subject=f"{account.phone} {address}", address=address
            ),
        }

        def set_password(connection: Connection) -> CurrentUser:
            row = connection.execute(_CHANGE_PASSWORD, values).one_or_none()
            if row is None:
                raise PasswordChanged
            self._login_addresses.replace(connection, account_id=row.id, address=address)
            self._end_connections(connection, row.id)
            return CurrentUser(*row)

        return self._database.run(set_password)

    def reset_password(
        self, *, phone: str, ticket: str, code: str, new_password: str, address: str
    ) -> None:
        """Verify a password reset code, set a new password and revoke all login tokens.

        Raises PasswordTooCommon, WrongCode, TooManyAttempts and RateLimited.
        """
        self._password_hashing.reject_common(new_password, phone=phone)
        # The code is checked before the password hash, because hashing is slow.
        self._database.run(
            lambda connection: self._verification_codes.check(
                connection, ticket=ticket, code=code, purpose=Purpose.RESET, phone=phone
            )
        )
        new_hash = self._hash(new_password, subject=f"reset {phone}", address=address)

        def verify_and_set_password(connection: Connection) -> None:
            self._verification_codes.verify(
                connection, ticket=ticket, code=code, purpose=Purpose.RESET, phone=phone
            )
            row = connection.execute(
                _RESET_PASSWORD, {"of_phone": phone, "new_hash": new_hash}
            ).one_or_none()
            if row is None:
                raise WrongCode  # the account was removed or disabled after the code was sent
            self._login_addresses.replace(connection, account_id=row.id, address=address)
            self._end_connections(connection, row.id)

        self._database.run(verify_and_set_password)

    def change_profile(
        self,
        account: CurrentUser,
        *,
        nickname: str | None = None,
        gender: str | None = None,
        head_image: str | None = None,
    ) -> OwnProfile:
        """Change the profile fields that are not None; return the complete profile.

        Raises AccountRemoved, and UnknownPicture if the settings require an uploaded picture.
        """
        fields = {"nickname": nickname, "gender": gender, "head_image": head_image}
        changed_fields = {name: value for name, value in fields.items() if value is not None}

        def store_changes(connection: Connection) -> tuple[OwnProfile, list[str]]:
            stored_profile = connection.execute(_LOCK_PROFILE, {"id": account.id}).one_or_none()
            if stored_profile is None:
                raise AccountRemoved
            unused_picture_locations: list[str] = []
            new_picture = changed_fields.get("head_image", stored_profile.head_image)
            if new_picture != stored_profile.head_image:
                self._claim_picture(connection, new_picture, account.id)
                unused_picture_locations = self._avatars.release(
                    connection, account.id, excluded_location=new_picture
                )
            if changed_fields:
                connection.execute(
                    update(models.Account)
                    .where(models.Account.id == account.id)
                    .values(changed_fields)
                )
            *profile, public_id = connection.execute(_LOCK_PROFILE, {"id": account.id}).one()
            return OwnProfile(Profile._make(profile), public_id), unused_picture_locations

        profile, unused_picture_locations = self._database.run(store_changes)
        self._avatars.remove(unused_picture_locations)
        return profile

    def remove(self, account: CurrentUser) -> None:
        """Remove an account and its phone number, profile, friends, messages and pictures.

        The account's transfers stay in the ledger, and the blocks of other users apply to a new
        account with the phone. Raises AccountIsLive and AccountRemoved.
        """

        def remove_account(connection: Connection) -> list[str]:
            values = {"of_account": account.id}
            if connection.execute(_LOCK_ACCOUNT, values).one_or_none() is None:
                raise AccountRemoved
            if connection.execute(_ROOM_NOT_CLOSED, values).first():
                raise AccountIsLive
            for statement in _DELETE_RELATIONS:
                connection.execute(statement, values)
            delete_codes(connection, account.phone)
            unused_picture_locations = self._avatars.release(connection, account.id)
            connection.execute(_MARK_REMOVED, values)
            self._end_connections(connection, account.id)
            self._kept_blocks.keep(connection, account.id, phone=account.phone)
            return unused_picture_locations

        self._avatars.remove(self._database.run(remove_account))

    def _end_connections(self, connection: Connection, account_id: int) -> None:
        """End the account's connections for live events, because its login tokens are revoked."""
        self._outbox.append(connection, EventType.LOGIN_REVOKED, account_id=account_id)

    def _hash(self, password: str, *, subject: str, address: str) -> str:
        limits = hash_limits(account=subject, address=address)
        return self._password_hashing.hash(password, *limits, client=address)

    def _insert_account(
        self, connection: Connection, *, account: dict[str, Any], address: str
    ) -> None:
        is_phone_verified = use_verification(connection, account["phone"])
        if self._require_verified_phone and not is_phone_verified:
            raise PhoneNotVerified
        account_id = connection.execute(_INSERT_ACCOUNT, account).scalar_one_or_none()
        if account_id is None:
            raise PhoneTaken
        open_account(connection, account_id)
        self._kept_blocks.apply(connection, account_id, phone=account["phone"])
        self._login_addresses.add(connection, account_id=account_id, address=address)
        if account["head_image"]:
            self._claim_picture(connection, account["head_image"], account_id)

    def _claim_picture(self, connection: Connection, location: str, account_id: int) -> None:
        is_claimed = self._avatars.claim(connection, location=location, account_id=account_id)
        if self._require_uploaded_pictures and not is_claimed:
            raise UnknownPicture
