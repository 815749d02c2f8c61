"""Friends: user search, friend requests, friendships and blocks."""

from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from livebackend import models
from livebackend.core.errors import (
    AccountRemoved,
    AlreadyFriends,
    BlockLimitReached,
    FriendLimitReached,
    MessageIdsMismatch,
    MessageOfAnotherUser,
    NotFriends,
    OwnAccount,
    OwnFriendLimitReached,
    RequestNotOpen,
    UnknownMessage,
    UnknownUser,
    UserBlocked,
)
from livebackend.database.prepared_statements import PreparedStatement
from livebackend.events.declarations import EventType
from livebackend.events.outbox import Outbox
from livebackend.services.accounts import PROFILE_COLUMNS, Profile
from livebackend.services.login_tokens import CurrentUser


class SearchResult(NamedTuple):
    """A user that a search found."""

    account_id: int
    profile: Profile
    is_friend: bool


class MessageId(NamedTuple):
    """The id of one user's copy of a friend request.

    `phone` is the phone number of the user who has the copy, `number` is the request's
    `sent_at_us`.
    """

    phone: str
    number: int


_is_own_friendship = models.Friendship.account_id == bindparam("me")
_SEARCH = PreparedStatement(
    select(
        models.Account.id,
        *PROFILE_COLUMNS,
        exists()
        .where(_is_own_friendship, models.Friendship.friend_id == models.Account.id)
        .label("is_friend"),
    ).where(models.Account.phone == bindparam("phone"))
)

_LOCK_ACCOUNTS = PreparedStatement(
    select(models.Account.id, models.Account.phone, models.Account.public_id)
    .where(
        or_(models.Account.id == bindparam("me"), models.account_has_user_id),
        models.Account.phone.is_not(None),
    )
    .order_by(models.Account.id)
    .with_for_update(key_share=True)
)


def _open_request_id(applicant_parameter: str, addressee_parameter: str) -> Select[Any]:
    return select(models.FriendRequest.id).where(
        models.FriendRequest.applicant_id == bindparam(applicant_parameter),
        models.FriendRequest.addressee_id == bindparam(addressee_parameter),
        models.request_is_open,
    )


def _friend_count(account_parameter: str) -> ColumnElement[int]:
    count = select(func.count()).where(models.Friendship.account_id == bindparam(account_parameter))
    return count.scalar_subquery()


def _is_blocked(blocker_parameter: str, blocked_parameter: str) -> ColumnElement[bool]:
    return exists().where(
        models.Block.account_id == bindparam(blocker_parameter),
        models.Block.blocked_id == bindparam(blocked_parameter),
    )


_RELATIONSHIP = PreparedStatement(
    select(
        exists()
        .where(_is_own_friendship, models.Friendship.friend_id == bindparam("other"))
        .label("are_friends"),
        _open_request_id("me", "other").scalar_subquery().label("sent_request_id"),
        _open_request_id("other", "me").scalar_subquery().label("received_request_id"),
        _friend_count("me").label("own_friend_count"),
        _friend_count("other").label("other_friend_count"),
        _is_blocked("me", "other").label("has_blocked_other"),
        _is_blocked("other", "me").label("is_blocked_by_other"),
    )
)
_INSERT_REQUEST = PreparedStatement(
    insert(models.FriendRequest).values(
        applicant_id=bindparam("me"),
        addressee_id=bindparam("other"),
        addressee_visible=bindparam("visible"),
    )
)
_ACCEPT_REQUEST = PreparedStatement(
    update(models.FriendRequest)
    .where(models.FriendRequest.id == bindparam("request_id"), models.request_is_open)
    .values(state="accepted")
    .returning(models.FriendRequest.id)
)
_INSERT_FRIENDSHIP = PreparedStatement(
    insert(models.Friendship).values(
        [
            {"account_id": bindparam("me"), "friend_id": bindparam("other")},
            {"account_id": bindparam("other"), "friend_id": bindparam("me")},
        ]
    )
)
_DELETE_FRIENDSHIP = delete(models.Friendship).where(
    or_(
        and_(_is_own_friendship, models.Friendship.friend_id == bindparam("other")),
        and_(
            models.Friendship.account_id == bindparam("other"),
            models.Friendship.friend_id == bindparam("me"),
        ),
    )
)
_applicant, _addressee = aliased(models.Account), aliased(models.Account)
_REQUESTS_BY_NUMBER = PreparedStatement(
    select(
        models.FriendRequest.id,
        models.FriendRequest.applicant_id,
        models.FriendRequest.addressee_id,
        models.FriendRequest.state,
        models.FriendRequest.sent_at_us,
        _applicant.phone.label("applicant_phone"),
        _addressee.phone.label("addressee_phone"),
    )
    .join(_applicant, _applicant.id == models.FriendRequest.applicant_id)
    .join(_addressee, _addressee.id == models.FriendRequest.addressee_id)
    .where(models.FriendRequest.sent_at_us.in_([bindparam("verify"), bindparam("object")]))
)
_HIDE_FROM_APPLICANT = (
    update(models.FriendRequest)
    .where(models.FriendRequest.id == bindparam("request_id"))
    .values(applicant_visible=False)
)
# An addressee who deletes an open request declines it.
_HIDE_FROM_ADDRESSEE = (
    update(models.FriendRequest)
    .where(models.FriendRequest.id == bindparam("request_id"))
    .values(
        addressee_visible=False,
        state=case((models.request_is_open, "declined"), else_=models.FriendRequest.state),
    )
)


_BLOCK = (
    insert(models.Block)
    .values(account_id=bindparam("me"), blocked_id=bindparam("other"))
    .on_conflict_do_nothing()
)
# Only users who can be unblocked count: a removed account has no phone.
_COUNT_BLOCKED = (
    select(func.count())
    .select_from(models.Block)
    .join(models.Account, models.Account.id == models.Block.blocked_id)
    .where(models.Block.account_id == bindparam("me"), models.Account.phone.is_not(None))
)
_UNBLOCK = delete(models.Block).where(
    models.Block.account_id == bindparam("me"), models.Block.blocked_id == bindparam("other")
)
_is_received_request = and_(
    models.FriendRequest.applicant_id == bindparam("other"),
    models.FriendRequest.addressee_id == bindparam("me"),
    models.request_is_open,
)
_HIDE_RECEIVED_REQUEST = (
    update(models.FriendRequest).where(_is_received_request).values(addressee_visible=False)
)
_DECLINE_RECEIVED_REQUEST = (
    update(models.FriendRequest).where(_is_received_request).values(state="declined")
)
_WITHDRAW_SENT_REQUEST = (
    update(models.FriendRequest)
    .where(
        models.FriendRequest.applicant_id == bindparam("me"),
        models.FriendRequest.addressee_id == bindparam("other"),
        models.request_is_open,
    )
    .values(state="declined", applicant_visible=False, addressee_visible=False)
)


class Friends:
    """Friendships, friend requests and blocks, in the caller's transaction.

    A method that changes the relationship of two accounts locks both first, in the order of their
    ids, so that requests about the same two accounts run one after the other. `friends_max` limits
    the friends of an account, and also the users that it blocks.
    """

    def __init__(self, outbox: Outbox, *, friends_max: int) -> None:
        self._outbox = outbox
        self._friends_max = friends_max

    def search(self, connection: Connection, me: CurrentUser, phone: str) -> SearchResult:
        """Return the user with the phone number `phone`. Raises UnknownUser."""
        row = _SEARCH.first(connection, {"me": me.id, "phone": phone})
        if row is None:
            raise UnknownUser
        return SearchResult(row.id, Profile(*row[1:5]), row.is_friend)

    def add(self, connection: Connection, me: CurrentUser, phone: str) -> None:
        """Send a friend request, or accept the one that the other user has sent.

        A user who blocked `me` does not see the request.
        Raises UnknownUser, OwnAccount, AlreadyFriends, UserBlocked, OwnFriendLimitReached,
        FriendLimitReached and AccountRemoved.
        """
        account_ids = _lock_different_accounts(connection, me, phone)
        relationship = _RELATIONSHIP.first(connection, account_ids)
        if relationship.are_friends:
            raise AlreadyFriends
        if relationship.has_blocked_other:
            raise UserBlocked
        if relationship.sent_request_id is not None:
            return
        if relationship.own_friend_count >= self._friends_max:
            raise OwnFriendLimitReached(maximum=self._friends_max)
        if relationship.received_request_id is None:
            _INSERT_REQUEST.run(
                connection, {**account_ids, "visible": not relationship.is_blocked_by_other}
            )
            if not relationship.is_blocked_by_other:
                self._append_event(connection, EventType.FRIEND_REQUEST, account_ids)
        else:
            self._befriend(connection, account_ids, relationship, relationship.received_request_id)

    def accept(
        self,
        connection: Connection,
        me: CurrentUser,
        applicant: str,
        verify_id: MessageId,
        object_id: MessageId,
    ) -> None:
        """Accept the friend request with these two message ids.

        Accepting an accepted request changes nothing. If no message has these ids, the open request
        of `applicant` to `me` is accepted. An unknown user has the same errors as a user without
        requests. Raises MessageIdsMismatch, MessageOfAnotherUser, RequestNotOpen,
        FriendLimitReached and AccountRemoved.
        """
        try:
            account_ids = _lock_accounts(connection, me, applicant)
        except UnknownUser:
            account_ids = None
        request = _find_request(connection, verify_id, object_id)
        if account_ids is None:
            raise MessageOfAnotherUser if request else RequestNotOpen
        relationship = _RELATIONSHIP.first(connection, account_ids)
        if request is None:
            request_id = relationship.received_request_id
            # If no request is open and the users are friends, the request was already accepted.
            state = "open" if request_id is not None else "accepted"
        elif request.applicant_id != account_ids["other"] or request.addressee_id != me.id:
            raise MessageOfAnotherUser
        else:
            request_id, state = request.id, request.state
        if state == "accepted" and relationship.are_friends:
            return
        # `me` cannot accept a request from a user that `me` blocked.
        if state != "open" or request_id is None or relationship.has_blocked_other:
            raise RequestNotOpen
        self._befriend(connection, account_ids, relationship, request_id)

    def delete_message(
        self,
        connection: Connection,
        me: CurrentUser,
        phone: str,
        verify_id: MessageId,
        object_id: MessageId,
    ) -> None:
        """Delete the copy that `me` has of the friend request with these two message ids.

        Deleting a deleted copy changes nothing. `phone` is the number of the applicant or the
        addressee. An addressee who deletes an open request declines it. Raises UnknownMessage,
        MessageIdsMismatch and MessageOfAnotherUser.
        """
        request = _find_request(connection, verify_id, object_id)
        if request is None or me.id not in (request.applicant_id, request.addressee_id):
            raise UnknownMessage
        if phone not in (request.applicant_phone, request.addressee_phone):
            raise MessageOfAnotherUser
        is_applicant = request.applicant_id == me.id
        connection.execute(
            _HIDE_FROM_APPLICANT if is_applicant else _HIDE_FROM_ADDRESSEE,
            {"request_id": request.id},
        )

    def unfriend(self, connection: Connection, me: CurrentUser, phone: str) -> None:
        """Delete a friendship.

        Raises NotFriends, also for an unknown user, and AccountRemoved.
        """
        try:
            account_ids = _lock_accounts(connection, me, phone)
        except UnknownUser:
            raise NotFriends from None
        if connection.execute(_DELETE_FRIENDSHIP, account_ids).rowcount == 0:
            raise NotFriends

    def block(self, connection: Connection, me: CurrentUser, user_id: str) -> None:
        """Block a user: delete the friendship, and hide the user's requests from `me`.

        The open request and all later requests of the blocked user are hidden. The open request of
        `me` is withdrawn. The other user is not notified. Blocking a blocked user changes nothing.
        `user_id` is the phone number or the public id of the user. Raises UnknownUser, OwnAccount,
        BlockLimitReached and AccountRemoved.
        """
        account_ids = _lock_different_accounts(connection, me, user_id)
        for statement in (
            _BLOCK,
            _DELETE_FRIENDSHIP,
            _HIDE_RECEIVED_REQUEST,
            _WITHDRAW_SENT_REQUEST,
        ):
            connection.execute(statement, account_ids)
        if connection.execute(_COUNT_BLOCKED, account_ids).scalar_one() > self._friends_max:
            raise BlockLimitReached(maximum=self._friends_max)

    def unblock(self, connection: Connection, me: CurrentUser, user_id: str) -> None:
        """Unblock a user: `me` sees later requests; hidden requests stay hidden.

        `user_id` is the phone number or the public id of the user. Raises UnknownUser, OwnAccount
        and AccountRemoved.
        """
        account_ids = _lock_different_accounts(connection, me, user_id)
        if connection.execute(_UNBLOCK, account_ids).rowcount:
            connection.execute(_DECLINE_RECEIVED_REQUEST, account_ids)

    def _befriend(
        self,
        connection: Connection,
        account_ids: dict[str, int],
        relationship: Any,
        request_id: int,
    ) -> None:
        if relationship.own_friend_count >= self._friends_max:
            raise OwnFriendLimitReached(maximum=self._friends_max)
        if relationship.other_friend_count >= self._friends_max:
            raise FriendLimitReached(maximum=self._friends_max)
        accepted_request = _ACCEPT_REQUEST.first(connection, {"request_id": request_id})
        # A concurrent request of `me` can have declined the friend request.
        if accepted_request is None:
            raise RequestNotOpen
        _INSERT_FRIENDSHIP.run(connection, account_ids)
        self._append_event(connection, EventType.FRIEND_ACCEPTED, account_ids)

    def _append_event(
        self, connection: Connection, event_type: EventType, account_ids: dict[str, int]
    ) -> None:
        self._outbox.append(
            connection, event_type, account_id=account_ids["other"], subject_id=account_ids["me"]
        )


def _lock_different_accounts(
    connection: Connection, me: CurrentUser, user_id: str
) -> dict[str, int]:
    """Lock two accounts like `_lock_accounts`; raise OwnAccount if both are the same."""
    account_ids = _lock_accounts(connection, me, user_id)
    if account_ids["other"] == account_ids["me"]:
        raise OwnAccount
    return account_ids


def _lock_accounts(connection: Connection, me: CurrentUser, user_id: str) -> dict[str, int]:
    """Lock the accounts of `me` and of the phone number or public id `user_id`.

    Returns the two account ids by their SQL parameter names, `me` and `other`.

    Raises UnknownUser, and AccountRemoved if `me` was removed by a concurrent request.
    """
    rows = _LOCK_ACCOUNTS.run(connection, {"me": me.id, "user_id": user_id})
    other_id = next((row.id for row in rows if user_id in (row.phone, row.public_id)), None)
    if other_id is None:
        raise UnknownUser
    if all(row.id != me.id for row in rows):
        raise AccountRemoved
    return {"me": me.id, "other": other_id}


def _find_request(connection: Connection, verify_id: MessageId, object_id: MessageId) -> Any:
    """Return the request whose two copies have these ids.

    Returns None if neither id exists. Raises MessageIdsMismatch if one of the ids exists, but the
    two ids do not belong to the same request.
    """
    message_numbers = {"verify": verify_id.number, "object": object_id.number}
    any_id_exists = False
    for row in _REQUESTS_BY_NUMBER.run(connection, message_numbers):
        copy_ids = (
            MessageId(row.addressee_phone, row.sent_at_us),
            MessageId(row.applicant_phone, row.sent_at_us),
        )
        if copy_ids == (verify_id, object_id):
            return row
        any_id_exists |= verify_id in copy_ids or object_id in copy_ids
    if any_id_exists:
        raise MessageIdsMismatch
    return None
