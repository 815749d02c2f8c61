"""The two lists: one's friends and one's messages, each found with whose token it is.

They are what the app asks for all the time. So each is one statement, which begins with the holder
of the login token: no row at all says that the token has ended, and a row of nulls that the list is
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
from livebackend.database.prepared_statements import Prepared
from livebackend.services.accounts import PROFILE, Gender
from livebackend.services.live_rooms import PlayUrls
from livebackend.services.login_tokens import HOLDER, Claims


class Friend(NamedTuple):
    """A friend as the list shows him; `play_urls` is None unless he is live."""

    phone: str
    nickname: str | None
    gender: Gender | None
    head_image: str | None
    title: str | None
    play_urls: PlayUrls | None


class Message(NamedTuple):
    """My copy of a request, with the other side's profile."""

    my_phone: str
    # When the request was sent, in microseconds since 1970 UTC: the number in both copies' ids.
    sent_at_us: int
    i_applied: bool
    accepted: bool
    phone: str
    nickname: str | None
    gender: Gender | None
    head_image: str | None


_me = HOLDER.cte("me")
_friends = join(
    models.Friendship, models.Account, models.Account.id == models.Friendship.friend_id
).outerjoin(
    models.Room, and_(models.Room.account_id == models.Friendship.friend_id, models.room_is_open)
)
_FRIENDS = Prepared(
    select(*PROFILE, models.Room.title, models.Room.play_urls)
    .select_from(_me.outerjoin(_friends, models.Friendship.account_id == _me.c.id))
    .order_by(
        models.Room.started_at.desc().nulls_last(),
        models.Account.nickname.collate("C").nulls_last(),
        models.Account.phone,
    )
    .limit(bindparam("most"))
)


def _messages_as(*, applicant: bool) -> FromClause:
    """My newest copies as applicant, or as addressee."""
    r = models.FriendRequest
    me, other, kept = (
        (r.applicant_id, r.addressee_id, r.applicant_visible)
        if applicant
        else (r.addressee_id, r.applicant_id, r.addressee_visible)
    )
    return (
        select(
            r.sent_at_us,
            (r.state == "accepted").label("accepted"),
            (true() if applicant else false()).label("i_applied"),
            other.label("other"),
        )
        .where(me == bindparam("account_id"), kept)
        .order_by(r.sent_at_us.desc())
        .limit(bindparam("most"))
        .subquery()
    )


_copies = union_all(
    select(_messages_as(applicant=True)), select(_messages_as(applicant=False))
).subquery("copies")
_MESSAGES = Prepared(
    select(
        _me.c.phone.label("my_phone"),
        _copies.c.sent_at_us,
        _copies.c.i_applied,
        _copies.c.accepted,
        *PROFILE,
    )
    .select_from(
        _me.outerjoin(_copies.join(models.Account, models.Account.id == _copies.c.other), true())
    )
    .order_by(_copies.c.sent_at_us.desc())
    .limit(bindparam("most"))
)


class Lists:
    """The lists of the user whose login token has these claims."""

    def __init__(self, *, friends_max: int, messages_max: int) -> None:
        self._friends_max = friends_max
        self._messages_max = messages_max

    def friends(self, connection: Connection, claims: Claims) -> list[Friend]:
        """Return the user's friends: live ones first (latest first), then by nickname and phone.

        Raises TokenInvalid for a revoked token.
        """
        rows = _rows(connection, _FRIENDS, claims, limit=self._friends_max)
        return list(map(Friend._make, rows))

    def messages(self, connection: Connection, claims: Claims) -> list[Message]:
        """Return the user's messages, the newest first. Raises TokenInvalid."""
        rows = _rows(connection, _MESSAGES, claims, limit=self._messages_max)
        return list(map(Message._make, rows))


def _rows(
    connection: Connection, statement: Prepared, claims: Claims, *, limit: int
) -> Sequence[Any]:
    rows = statement.run(connection, claims.values | {"most": limit})
    if not rows:
        raise TokenInvalid
    return rows if rows[0].phone is not None else ()
