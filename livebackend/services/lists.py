"""The friend list and the message list.

Clients request both lists very often. So one statement authenticates the login token and selects
the list, and PostgreSQL writes the entries as JSON, with the field names of the API document: that
takes less CPU time than to fetch the rows and to convert them in Python.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
    union_all,
)

from livebackend import models
from livebackend.core.errors import TokenInvalid
from livebackend.database.prepared_statements import PreparedStatement
from livebackend.services.login_tokens import TOKEN_OWNER, TokenClaims


@dataclass(frozen=True)
class JsonList:
    """A list as JSON: the number of entries, and an array of objects as text."""

    count: int
    entries: str


_me = TOKEN_OWNER.cte("me")
_account_id: ColumnElement[int] = bindparam("account_id")
_limit: ColumnElement[int] = bindparam("limit")
_PROFILE = (
    models.Account.phone.label("userId"),
    models.Account.nickname,
    models.Account.gender,
    models.Account.head_image.label("headImage"),
)


def _constant(sql: str) -> ColumnElement[Any]:
    # A value of SQLAlchemy would become a parameter of the prepared statement.
    return literal_column(sql)


def _select_as_json(entries: Select[Any]) -> Select[Any]:
    """Return a statement that selects entries as JSON.

    It returns one row, or no row if the login token is revoked.
    """
    # json_agg() would write a blank and a line break between two entries.
    json_list = (
        select(
            func.count().label("count"),
            func.string_agg(
                cast(func.row_to_json(literal_column("entry")), Text), _constant("','")
            ).label("entries"),
        )
        .select_from(entries.subquery("entry"))
        .subquery("json_list")
    )
    return select(json_list).select_from(_me.join(json_list, true()))


_FRIENDS = PreparedStatement(
    _select_as_json(
        select(
            *_PROFILE,
            case(
                (models.Room.play_urls.is_not(None), _constant("'on'")), else_=_constant("'off'")
            ).label("liveStatus"),
            models.Room.title,
            models.Room.play_urls.label("playUrl"),
        )
        .select_from(models.Friendship)
        .join(models.Account, models.Account.id == models.Friendship.friend_id)
        .outerjoin(
            models.Room,
            and_(models.Room.account_id == models.Friendship.friend_id, models.room_is_open),
        )
        .where(models.Friendship.account_id == _account_id)
        .order_by(
            models.Room.started_at.desc().nulls_last(),
            models.Account.nickname.collate("C").nulls_last(),
            models.Account.phone,
        )
        .limit(_limit)
    )
)


def _select_requests(*, is_sent: bool) -> Select[Any]:
    """Return a query for the newest friend requests that the user sent, or received."""
    request = models.FriendRequest
    own_id, other_id, is_visible = (
        (request.applicant_id, request.addressee_id, request.applicant_visible)
        if is_sent
        else (request.addressee_id, request.applicant_id, request.addressee_visible)
    )
    accepted_flag, open_flag = map(_constant, ("3", "2") if is_sent else ("1", "0"))
    newest = (
        select(
            request.sent_at_us,
            case((request.state == _constant("'accepted'"), accepted_flag), else_=open_flag).label(
                "flag"
            ),
            other_id.label("other_account_id"),
        )
        .where(own_id == _account_id, is_visible)
        .order_by(request.sent_at_us.desc())
        .limit(_limit)
        .subquery()
    )
    return select(newest)


_requests = union_all(_select_requests(is_sent=True), _select_requests(is_sent=False)).subquery(
    "requests"
)


def _message_id(*, of_addressee: bool) -> ColumnElement[str]:
    """Return the message id of the addressee's copy of a request, or of the applicant's copy."""
    is_own = (
        _requests.c.flag < _constant("2") if of_addressee else _requests.c.flag >= _constant("2")
    )
    phone = case((is_own, _me.c.phone), else_=models.Account.phone)
    return phone + _constant("','") + cast(_requests.c.sent_at_us, Text)


_sent_at = _constant("timestamp 'epoch'") + _requests.c.sent_at_us * _constant(
    "interval '1 microsecond'"
)
_MESSAGES = PreparedStatement(
    _select_as_json(
        select(
            _message_id(of_addressee=True).label("verifyId"),
            _message_id(of_addressee=False).label("objectId"),
            *_PROFILE,
            _requests.c.flag,
            func.to_char(_sent_at, _constant("""'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'""")).label("time"),
        )
        .select_from(_requests)
        .join(models.Account, models.Account.id == _requests.c.other_account_id)
        .join(_me, true())
        .order_by(_requests.c.sent_at_us.desc())
        .limit(_limit)
    )
)


class Lists:
    """Returns the friend list and the message list of the user of a login token."""

    def __init__(self, *, friends_max: int, messages_max: int) -> None:
        self._friends_max = friends_max
        self._messages_max = messages_max

    def friends(self, connection: Connection, claims: TokenClaims) -> JsonList:
        """Return the friends: live friends first, the others by nickname and phone.

        Raises TokenInvalid for a revoked token.
        """
        return _fetch(connection, _FRIENDS, claims, limit=self._friends_max)

    def messages(self, connection: Connection, claims: TokenClaims) -> JsonList:
        """Return the messages, newest first. Raises TokenInvalid for a revoked token."""
        return _fetch(connection, _MESSAGES, claims, limit=self._messages_max)


def _fetch(
    connection: Connection, statement: PreparedStatement, claims: TokenClaims, *, limit: int
) -> JsonList:
    row = statement.first(connection, claims.values | {"limit": limit})
    if row is None:
        raise TokenInvalid
    return JsonList(row.count, f"[{row.entries or ''}]")
