"""The friend list and the message list.

Clients request both lists very often, so one statement authenticates the login token and selects
the list. The statement returns no row if the token is revoked, and one row of NULLs if the list is
empty.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    FromClause,
    and_,
    bindparam,
    false,
    join,
    select,
    true,
    union_all,
)

from livebackend import models
from livebackend.core.errors import TokenInvalid
from livebackend.database.prepared_statements import PreparedStatement
from livebackend.services.accounts import PROFILE_COLUMNS, Gender
from livebackend.services.live_room_list import PlayUrls
from livebackend.services.login_tokens import TOKEN_OWNER, TokenClaims


class Friend(NamedTuple):
    """An entry of the friend list; `play_urls` is None unless the friend is live."""

    phone: str
    nickname: str | None
    gender: Gender | None
    head_image: str | None
    title: str | None
    play_urls: PlayUrls | None


class Message(NamedTuple):
    """A user's copy of a friend request, with the profile of the other user."""

    my_phone: str
    # The time at which the friend request was sent, in microseconds since 1970 UTC.
    sent_at_us: int
    is_applicant: bool
    accepted: bool
    phone: str
    nickname: str | None
    gender: Gender | None
    head_image: str | None


_me = TOKEN_OWNER.cte("me")
_friends_and_rooms = join(
    models.Friendship, models.Account, models.Account.id == models.Friendship.friend_id
).outerjoin(
    models.Room, and_(models.Room.account_id == models.Friendship.friend_id, models.room_is_open)
)
_FRIENDS = PreparedStatement(
    select(*PROFILE_COLUMNS, models.Room.title, models.Room.play_urls)
    .select_from(_me.outerjoin(_friends_and_rooms, models.Friendship.account_id == _me.c.id))
    .order_by(
        models.Room.started_at.desc().nulls_last(),
        models.Account.nickname.collate("C").nulls_last(),
        models.Account.phone,
    )
    .limit(bindparam("limit"))
)


def _select_requests(*, is_sent: bool) -> FromClause:
    """Return a subquery: the newest friend requests that the user sent, or received."""
    friend_request = models.FriendRequest
    own_id, other_id, is_visible = (
        (friend_request.applicant_id, friend_request.addressee_id, friend_request.applicant_visible)
        if is_sent
        else (
            friend_request.addressee_id,
            friend_request.applicant_id,
            friend_request.addressee_visible,
        )
    )
    return (
        select(
            friend_request.sent_at_us,
            (friend_request.state == "accepted").label("accepted"),
            (true() if is_sent else false()).label("is_applicant"),
            other_id.label("other_account_id"),
        )
        .where(own_id == bindparam("account_id"), is_visible)
        .order_by(friend_request.sent_at_us.desc())
        .limit(bindparam("limit"))
        .subquery()
    )


_all_requests = union_all(
    select(_select_requests(is_sent=True)), select(_select_requests(is_sent=False))
).subquery("copies")
_MESSAGES = PreparedStatement(
    select(
        _me.c.phone.label("my_phone"),
        _all_requests.c.sent_at_us,
        _all_requests.c.is_applicant,
        _all_requests.c.accepted,
        *PROFILE_COLUMNS,
    )
    .select_from(
        _me.outerjoin(
            _all_requests.join(
                models.Account, models.Account.id == _all_requests.c.other_account_id
            ),
            true(),
        )
    )
    .order_by(_all_requests.c.sent_at_us.desc())
    .limit(bindparam("limit"))
)


class Lists:
    """Returns the friend list and the message list of the user of a login token."""

    def __init__(self, *, friends_max: int, messages_max: int) -> None:
        self._friends_max = friends_max
        self._messages_max = messages_max

    def friends(self, connection: Connection, claims: TokenClaims) -> list[Friend]:
        """Return the friends: live friends first, the others by nickname and phone.

        Raises TokenInvalid for a revoked token.
        """
        rows = _fetch_rows(connection, _FRIENDS, claims, limit=self._friends_max)
        return list(map(Friend._make, rows))

    def messages(self, connection: Connection, claims: TokenClaims) -> list[Message]:
        """Return the messages, newest first. Raises TokenInvalid for a revoked token."""
        rows = _fetch_rows(connection, _MESSAGES, claims, limit=self._messages_max)
        return list(map(Message._make, rows))


def _fetch_rows(
    connection: Connection, statement: PreparedStatement, claims: TokenClaims, *, limit: int
) -> Sequence[Any]:
    rows = statement.run(connection, claims.values | {"limit": limit})
    if not rows:
        raise TokenInvalid
    return rows if rows[0].phone is not None else ()
