"""Declarations of all live events: their names, channels, data and importance."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple

# The version of the JSON of an event.
FORMAT_VERSION = 1


class EventType(StrEnum):
    FRIEND_REQUEST = "friend_request"
    FRIEND_ACCEPTED = "friend_accepted"
    FRIEND_LIVE = "friend_live"
    FRIEND_LEFT = "friend_left"
    COINS_CHANGED = "coins_changed"
    ACCOUNT_WARNED = "account_warned"
    ACCOUNT_DISABLED = "account_disabled"
    LOGIN_REVOKED = "login_revoked"


class Text(NamedTuple):
    """The same text in both languages."""

    english: str
    chinese: str


@dataclass(frozen=True)
class Field:
    """A field of an event's data; `type` is a type of JSON Schema."""

    name: str
    type: Literal["string", "integer", "object"]
    description: Text
    example: Any = None
    nullable: bool = False
    # The allowed values; empty if all values of the type are allowed.
    values: tuple[str, ...] = ()
    # The fields of an object.
    fields: tuple["Field", ...] = ()


@dataclass(frozen=True)
class Event:
    """The declaration of an event type.

    If the outbox exceeds its limits, events that are not `important` are dropped first.
    """

    type: EventType
    title: Text
    description: Text
    # The operation that returns the current state. A client that has missed events calls it.
    operation: str
    fields: tuple[Field, ...] = ()
    # The kind of the channel, which is the first part of its name.
    channel: Literal["user"] = "user"
    important: bool = True
    # Whether all friends of the account receive the event.
    to_friends: bool = False
    # Whether the engine ends the connections of the channel after the event.
    closes_channel: bool = False


_PROFILE = (
    Field("nickname", "string", Text("nickname, or null", "昵称，或 null"), "Ben", nullable=True),
    Field(
        "gender",
        "string",
        Text("0 female, 1 male, or null", "0 女，1 男，或 null"),
        "1",
        nullable=True,
        values=("0", "1"),
    ),
    Field(
        "headImage",
        "string",
        Text("avatar, or null", "头像，或 null"),
        "https://live.example/pictures/5f3a.jpg",
        nullable=True,
    ),
)
_STRANGER = Field(
    "user",
    "object",
    Text("the user who sent the request", "申请人"),
    fields=(
        Field(
            "publicId",
            "string",
            Text("public ID of the user", "用户的公开标识"),
            "u_00112233445566778899",
        ),
        *_PROFILE,
    ),
)
_FRIEND = Field(
    "user",
    "object",
    Text("the friend", "好友"),
    fields=(
        Field(
            "userId",
            "string",
            Text("phone number of the friend", "好友的手机号"),
            "13800000002",
        ),
        *_PROFILE,
    ),
)
_PLAY_URLS = tuple(
    Field(
        name,
        "string",
        Text(f"{protocol} URL, or null", f"{protocol} 播放地址，或 null"),
        f"{scheme}://live.example/livebackend/9f3c{suffix}",
        nullable=True,
    )
    for name, protocol, scheme, suffix in (
        ("rtmp", "RTMP", "rtmp", ""),
        ("hls", "HLS", "https", ".m3u8"),
        ("hdl", "HTTP-FLV", "https", ".flv"),
    )
)

_DECLARATIONS = (
    Event(
        EventType.FRIEND_REQUEST,
        Text("Friend request", "好友申请"),
        Text("A user has sent the user a friend request.", "有用户向本人发送了好友申请。"),
        operation="/list messagelist=1",
        fields=(_STRANGER,),
    ),
    Event(
        EventType.FRIEND_ACCEPTED,
        Text("Friend request accepted", "好友申请已通过"),
        Text("A user has accepted the user's friend request.", "对方通过了本人的好友申请。"),
        operation="/list friendlist=1",
        fields=(_FRIEND,),
    ),
    Event(
        EventType.FRIEND_LIVE,
        Text("Friend is live", "好友开播"),
        Text("A friend has gone live.", "好友开始直播。"),
        operation="/list friendlist=1",
        fields=(
            _FRIEND,
            Field(
                "title",
                "string",
                Text("title of the room, or null", "直播间标题，或 null"),
                "hello",
                nullable=True,
            ),
            Field(
                "playUrl",
                "object",
                Text("play URLs, or null if they are too long", "播放地址；过长时为 null"),
                nullable=True,
                fields=_PLAY_URLS,
            ),
        ),
        important=False,
        to_friends=True,
    ),
    Event(
        EventType.FRIEND_LEFT,
        Text("Friend is no longer live", "好友下播"),
        Text("The room of a friend was closed.", "好友的直播间已关闭。"),
        operation="/list friendlist=1",
        fields=(_FRIEND,),
        important=False,
        to_friends=True,
    ),
    Event(
        EventType.COINS_CHANGED,
        Text("Coins changed", "金币变动"),
        Text(
            "A gift, a refill or a reversal has changed the user's balance. The balance can already"
            " include later transfers.",
            "礼物、充值或冲正改变了本人的金币余额。余额可能已包含之后的转账。",
        ),
        operation="/golden balance=1",
        fields=(
            Field("balance", "integer", Text("balance in coins", "金币余额"), 120),
            Field(
                "change",
                "integer",
                Text("coins of the transfer; negative for spent coins", "金币数，支出为负数"),
                30,
            ),
            Field(
                "kind",
                "string",
                Text("gift, refill or reversal", "gift 礼物，refill 充值，reversal 冲正"),
                "gift",
                values=("gift", "refill", "reversal"),
            ),
            Field("transferId", "integer", Text("ID of the transfer", "转账标识"), 4711),
        ),
    ),
    Event(
        EventType.ACCOUNT_WARNED,
        Text("Warning", "警告"),
        Text("An operator warns the user.", "运营人员向用户发出警告。"),
        operation="",
        fields=(
            Field("text", "string", Text("text of the warning", "警告内容"), "No advertising"),
        ),
    ),
    Event(
        EventType.ACCOUNT_DISABLED,
        Text("Account disabled", "账号已停用"),
        Text(
            "An operator has disabled the account: its login tokens are revoked, and this is the"
            " last event of the connection.",
            "运营人员停用了账号：登录凭证已失效，这是该连接的最后一个事件。",
        ),
        operation="",
        closes_channel=True,
    ),
    Event(
        EventType.LOGIN_REVOKED,
        Text("Login token revoked", "登录凭证失效"),
        Text(
            "A login token of the user was revoked, for example by a logout or a new password. The"
            " connection ends, and clients that still have a valid token connect again.",
            "本人的某个登录凭证已失效，例如退出登录或修改密码。连接随即断开；"
            "登录凭证仍有效的客户端应重新连接。",
        ),
        operation="",
        closes_channel=True,
    ),
)
EVENTS: Mapping[str, Event] = {event.type.value: event for event in _DECLARATIONS}


def closes_channel(event_type: str) -> bool:
    """Return whether the engine ends the connections of a channel after an event of this type."""
    return event_type in EVENTS and EVENTS[event_type].closes_channel
