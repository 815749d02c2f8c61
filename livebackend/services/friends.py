"""Friends: finding people, asking, answering, parting."""

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
from livebackend.api.error_reasons import Reason
from livebackend.api.errors import Failure
from livebackend.api.result_codes import Result
from livebackend.database.prepared_statements import Prepared
from livebackend.services.accounts import PROFILE, Account, Profile


class Found(NamedTuple):
    """Somebody who was searched for."""

    account_id: int
    profile: Profile
    is_friend: bool


class MessageId(NamedTuple):
    """Names one side's copy of a request: the phone of who has it, and the request's number."""

    phone: str
    number: int

    @classmethod
    def parse(cls, text: str) -> "MessageId":
        """From `"<phone>,<digits>"`; the comma may be a full-width one."""
        phone, _, number = text.replace("，", ",").partition(",")
        return cls(phone, int(number))

    def __str__(self) -> str:
        return f"{self.phone},{self.number}"


_mine = models.Friendship.account_id == bindparam("me")
_FIND = Prepared(
    select(
        models.Account.id,
        *PROFILE,
        exists().where(_mine, models.Friendship.friend_id == models.Account.id).label("is_friend"),
    ).where(models.Account.phone == bindparam("phone"))
)

_LOCK = Prepared(
    select(models.Account.id, models.Account.phone)
    .where(
        or_(models.Account.id == bindparam("me"), models.Account.phone == bindparam("phone")),
        models.Account.phone.is_not(None),
    )
    .order_by(models.Account.id)
    .with_for_update(key_share=True)
)


def _open_request(applicant: str, addressee: str) -> Select[Any]:
    return select(models.FriendRequest.id).where(
        models.FriendRequest.applicant_id == bindparam(applicant),
        models.FriendRequest.addressee_id == bindparam(addressee),
        models.request_is_open,
    )


def _friends_of(name: str) -> ColumnElement[int]:
    count = select(func.count()).where(models.Friendship.account_id == bindparam(name))
    return count.scalar_subquery()


def _is_blocked(by: str, whom: str) -> ColumnElement[bool]:
    return exists().where(
        models.Block.account_id == bindparam(by), models.Block.blocked_id == bindparam(whom)
    )


_STANDING = Prepared(
    select(
        exists()
        .where(_mine, models.Friendship.friend_id == bindparam("other"))
        .label("are_friends"),
        _open_request("me", "other").scalar_subquery().label("my_request"),
        _open_request("other", "me").scalar_subquery().label("their_request"),
        _friends_of("me").label("my_friends"),
        _friends_of("other").label("their_friends"),
        _is_blocked("me", "other").label("i_blocked"),
        _is_blocked("other", "me").label("they_blocked"),
    )
)
_ASK = Prepared(
    insert(models.FriendRequest).values(
        applicant_id=bindparam("me"),
        addressee_id=bindparam("other"),
        addressee_visible=bindparam("seen"),
    )
)
_ACCEPT = Prepared(
    update(models.FriendRequest)
    .where(models.FriendRequest.id == bindparam("request_id"), models.request_is_open)
    .values(state="accepted")
    .returning(models.FriendRequest.id)
)
_BEFRIEND = Prepared(
    insert(models.Friendship).values(
        [
            {"account_id": bindparam("me"), "friend_id": bindparam("other")},
            {"account_id": bindparam("other"), "friend_id": bindparam("me")},
        ]
    )
)
_UNFRIEND = delete(models.Friendship).where(
    or_(
        and_(_mine, models.Friendship.friend_id == bindparam("other")),
        and_(
            models.Friendship.account_id == bindparam("other"),
            models.Friendship.friend_id == bindparam("me"),
        ),
    )
)
_applicant, _addressee = aliased(models.Account), aliased(models.Account)
_NUMBERED = Prepared(
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
_DELETE_APPLICANTS_COPY = (
    update(models.FriendRequest)
    .where(models.FriendRequest.id == bindparam("request_id"))
    .values(applicant_visible=False)
)
# Deleting an open request unanswered declines it.
_DELETE_ADDRESSEES_COPY = (
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
_COUNT_BLOCKED = select(func.count()).where(models.Block.account_id == bindparam("me"))
_UNBLOCK = delete(models.Block).where(
    models.Block.account_id == bindparam("me"), models.Block.blocked_id == bindparam("other")
)
_theirs = and_(
    models.FriendRequest.applicant_id == bindparam("other"),
    models.FriendRequest.addressee_id == bindparam("me"),
    models.request_is_open,
)
_HIDE_THEIRS = update(models.FriendRequest).where(_theirs).values(addressee_visible=False)
_DECLINE_THEIRS = update(models.FriendRequest).where(_theirs).values(state="declined")
_WITHDRAW_MINE = (
    update(models.FriendRequest)
    .where(
        models.FriendRequest.applicant_id == bindparam("me"),
        models.FriendRequest.addressee_id == bindparam("other"),
        models.request_is_open,
    )
    .values(state="declined", applicant_visible=False, addressee_visible=False)
)


class Friends:
    """What one account does with its friends, in the transaction of `connection`.

    Whatever changes who is whose friend first locks both accounts in the order of their ids, so
    that two calls about the same pair follow each other.
    """

    def __init__(self, connection: Connection, me: Account, *, friends_max: int) -> None:
        self._connection = connection
        self._me = me
        self._friends_max = friends_max

    def search(self, phone: str) -> Found:
        """Whoever has that phone. Fails with: NO_SUCH_USER."""
        row = _FIND.first(self._connection, {"me": self._me.id, "phone": phone})
        if row is None:
            raise Failure(Result.NO_SUCH_USER, "userId", Reason.UNKNOWN)
        return Found(row.id, Profile(*row[1:5]), row.is_friend)

    def add(self, phone: str) -> None:
        """Asks to be friends; if the other has asked already, both are from now on.

        Whoever blocked me never sees it. Fails with: NO_SUCH_USER, the refusal code for oneself,
        ALREADY_FRIENDS, the refusal code for somebody I blocked, and where one of both would have
        too many friends.
        """
        pair = self._lock_somebody(phone)
        standing = _STANDING.first(self._connection, pair)
        if standing.are_friends:
            raise Failure(Result.ALREADY_FRIENDS, "userId", Reason.ALREADY_A_FRIEND)
        if standing.i_blocked:
            raise Failure(None, "userId", Reason.BLOCKED)
        if standing.my_request is not None:
            return
        if standing.my_friends >= self._friends_max:
            raise Failure(None, "token", Reason.TOO_MANY_FRIENDS)
        if standing.their_request is None:
            _ASK.run(self._connection, {**pair, "seen": not standing.they_blocked})
        else:
            self._befriend(pair, standing, standing.their_request)

    def accept(self, applicant: str, verify_id: MessageId, object_id: MessageId) -> None:
        """Accepts the request that the two ids name; repeated among friends, nothing is new.

        Two ids that name nothing stand for the applicant's one open request to me.
        Fails with: the refusal code.
        """
        pair = self._lock(applicant)
        request = self._named(verify_id, object_id)
        standing = _STANDING.first(self._connection, pair)
        if request is None:
            request_id = standing.their_request
            # Among friends it is repeated.
            state = "open" if request_id is not None else "accepted"
        elif (request.applicant_id, request.addressee_id) != (pair["other"], pair["me"]):
            raise Failure(None, "userId", Reason.CONTRADICTS)
        else:
            request_id, state = request.id, request.state
        if state == "accepted" and standing.are_friends:
            return
        # What a blocked one asks is not there for me, though its ids may be known.
        if state != "open" or request_id is None or standing.i_blocked:
            raise Failure(None, "verifyId", Reason.NOT_OPEN)
        self._befriend(pair, standing, request_id)

    def delete_message(self, phone: str, verify_id: MessageId, object_id: MessageId) -> None:
        """Deletes my copy of the request that the two ids name; repeated, nothing is new.

        `phone` is either side's. As its addressee I decline a request that is open.
        Fails with: the refusal code.
        """
        request = self._named(verify_id, object_id)
        if request is None or self._me.id not in (request.applicant_id, request.addressee_id):
            raise Failure(None, "verifyId", Reason.UNKNOWN)
        if phone not in (request.applicant_phone, request.addressee_phone):
            raise Failure(None, "userId", Reason.CONTRADICTS)
        i_applied = request.applicant_id == self._me.id
        self._connection.execute(
            _DELETE_APPLICANTS_COPY if i_applied else _DELETE_ADDRESSEES_COPY,
            {"request_id": request.id},
        )

    def unfriend(self, phone: str) -> None:
        """Ends a friendship for both. Fails with: the refusal code."""
        if self._connection.execute(_UNFRIEND, self._lock(phone)).rowcount == 0:
            raise Failure(None, "userId", Reason.NOT_A_FRIEND)

    def block(self, phone: str) -> None:
        """Ends a friendship and both sides' open requests, and hides those to come; he is not told.

        Repeated, nothing is new. Fails with: NO_SUCH_USER, the refusal code for oneself, and for
        more blocked ones than there may be friends.
        """
        pair = self._lock_somebody(phone)
        for statement in (_BLOCK, _UNFRIEND, _HIDE_THEIRS, _WITHDRAW_MINE):
            self._connection.execute(statement, pair)
        if self._connection.execute(_COUNT_BLOCKED, pair).scalar_one() > self._friends_max:
            raise Failure(None, "userId", Reason.TOO_MANY_BLOCKED)

    def unblock(self, phone: str) -> None:
        """Lets somebody's next request be seen; what was hidden stays so.

        Fails with: NO_SUCH_USER, the refusal code for oneself.
        """
        pair = self._lock_somebody(phone)
        if self._connection.execute(_UNBLOCK, pair).rowcount:
            self._connection.execute(_DECLINE_THEIRS, pair)

    def _lock_somebody(self, phone: str) -> dict[str, int]:
        """Locks me and who has that phone. Fails with: NO_SUCH_USER, the refusal code for me."""
        pair = self._lock(phone, unknown=Result.NO_SUCH_USER)
        if pair["other"] == pair["me"]:
            raise Failure(None, "userId", Reason.ONESELF)
        return pair

    def _lock(self, phone: str, *, unknown: Result | None = None) -> dict[str, int]:
        """Locks me and who has that phone; returns the pair as the statements' parameters.

        Fails with: `unknown`, or else the refusal code, for nobody's phone; the refusal code if
        I was removed at this very moment.
        """
        found = _LOCK.run(self._connection, {"me": self._me.id, "phone": phone})
        ids = {row.phone: row.id for row in found}
        if phone not in ids:
            raise Failure(unknown, "userId", Reason.UNKNOWN)
        if self._me.id not in ids.values():
            raise Failure(None, "token", Reason.UNKNOWN)
        return {"me": self._me.id, "other": ids[phone]}

    def _befriend(self, pair: dict[str, int], standing: Any, request_id: int) -> None:
        if max(standing.my_friends, standing.their_friends) >= self._friends_max:
            raise Failure(None, "userId", Reason.TOO_MANY_FRIENDS)
        accepted = _ACCEPT.first(self._connection, {"request_id": request_id})
        if accepted is None:  # deleted by me at this very moment, on another phone
            raise Failure(None, "verifyId", Reason.NOT_OPEN)
        _BEFRIEND.run(self._connection, pair)

    def _named(self, verify_id: MessageId, object_id: MessageId) -> Any:
        """The request whose two copies these are; None if neither id names any message.

        Fails with: the refusal code, for ids that name messages but not the two of one request.
        """
        numbers = {"verify": verify_id.number, "object": object_id.number}
        names_any = False
        for row in _NUMBERED.run(self._connection, numbers):
            copies = (
                MessageId(row.addressee_phone, row.sent_at_us),
                MessageId(row.applicant_phone, row.sent_at_us),
            )
            if copies == (verify_id, object_id):
                return row
            names_any |= verify_id in copies or object_id in copies
        if names_any:
            raise Failure(None, "verifyId", Reason.CONTRADICTS)
        return None
