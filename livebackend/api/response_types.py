"""Types of the messages in successful responses."""

from typing import Annotated, Any, Literal

from pydantic import Field, Json

# Pydantic rejects typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict

from livebackend.api import examples
from livebackend.api.bilingual_text import documented_field

_Nickname = Annotated[
    str | None, documented_field("nickname, or null", "昵称，未设置时为 null", "Ann")
]
_Gender = Annotated[
    Literal["0", "1"] | None,
    documented_field("0 female, 1 male, or null", "0 女，1 男，未设置时为 null", "0"),
]
_HeadImage = Annotated[
    str | None,
    documented_field(
        "avatar: what the upload returned, or null",
        "头像路径，未设置时为 null",
        examples.PICTURE,
    ),
]
_RoomTitle = Annotated[
    str | None, documented_field("title of the room, or null", "直播间标题，或 null", "hello")
]


class Profile(TypedDict):
    """The public profile of a user; a value that is not set is null."""

    userId: Annotated[
        str, documented_field("phone number of the user", "用户的手机号", examples.ANN_PHONE)
    ]
    nickname: _Nickname
    gender: _Gender
    headImage: _HeadImage


class OwnProfile(Profile):
    """The user's own profile."""

    publicId: Annotated[
        str,
        documented_field(
            "ID that strangers see instead of the phone number",
            "公开标识，代替手机号展示给陌生人",
            examples.ANN_ID,
        ),
    ]


class PublicProfile(TypedDict):
    """The profile of a user as strangers see it, without the phone number."""

    publicId: Annotated[
        str,
        documented_field(
            "public ID of the user, for send_gift, ranking and block",
            "用户的公开标识，用于 send_gift、ranking 和 block",
            examples.ANN_ID,
        ),
    ]
    nickname: _Nickname
    gender: _Gender
    headImage: _HeadImage


class PlayUrls(TypedDict):
    """The play URLs of a stream; null if the provider does not have a protocol."""

    rtmp: Annotated[
        str | None,
        documented_field(
            "RTMP URL, or null",
            "RTMP 播放地址，或 null",
            f"rtmp://live-rtmp.livebackend.example/livebackend/{examples.STREAM_TITLE}",
        ),
    ]
    hls: Annotated[
        str | None,
        documented_field(
            "HLS URL, or null",
            "HLS 播放地址，或 null",
            f"http://live-hls.livebackend.example/livebackend/{examples.STREAM_TITLE}.m3u8",
        ),
    ]
    hdl: Annotated[
        str | None,
        documented_field(
            "HTTP-FLV URL, or null",
            "HTTP-FLV 播放地址，或 null",
            f"http://live-hdl.livebackend.example/livebackend/{examples.STREAM_TITLE}.flv",
        ),
    ]


class Friend(Profile):
    """A friend, and the friend's live room."""

    liveStatus: Annotated[
        Literal["on", "off"],
        documented_field(
            "on while the friend's room is open, otherwise off",
            "on 表示好友正在直播，否则为 off",
            "on",
        ),
    ]
    title: Annotated[
        str | None,
        documented_field(
            "title of the room; null if it has none, or the friend is not live",
            "直播间标题；没有标题或好友不在直播时为 null",
            "hello",
        ),
    ]
    playUrl: Annotated[
        PlayUrls | None,
        documented_field(
            "play URLs; null if the friend is not live", "播放地址；好友不在直播时为 null"
        ),
    ]


class FriendList(TypedDict):
    """The user's friends, live ones first."""

    count: Annotated[int, documented_field("number of friends", "好友人数", 1)]
    friends: Annotated[
        list[Friend], documented_field("the friends, live ones first", "好友，正在直播的在前")
    ]


class Message(Profile):
    """A friend request, with the profile of the other user."""

    verifyId: Annotated[
        str,
        documented_field(
            "message ID of the user who received the request",
            "收到申请的用户的消息标识",
            examples.BEN_MESSAGE_ID,
        ),
    ]
    objectId: Annotated[
        str,
        documented_field(
            "message ID of the user who sent the request",
            "发出申请的用户的消息标识",
            examples.ANN_MESSAGE_ID,
        ),
    ]
    flag: Annotated[
        Literal[0, 1, 2, 3],
        documented_field(
            "0 received, 1 accepted by this user, 2 sent, 3 accepted by the other user",
            "0 收到的申请，1 已由本人同意，2 发出的申请，3 已由对方同意",
            0,
        ),
    ]
    time: Annotated[
        str,
        documented_field(
            "when the request was sent; ISO 8601, UTC",
            "申请发出的时间，ISO 8601 格式，UTC 时区",
            examples.REQUEST_TIME,
        ),
    ]


class LiveRoom(PublicProfile):
    """A live room with its host."""

    title: _RoomTitle
    playUrl: Annotated[PlayUrls, documented_field("play URLs", "播放地址")]
    time: Annotated[
        str,
        documented_field(
            "when the room opened; ISO 8601, UTC",
            "开播时间，ISO 8601 格式，UTC 时区",
            examples.REQUEST_TIME,
        ),
    ]


class LiveRooms(TypedDict):
    """A page of live rooms."""

    rooms: Annotated[
        list[LiveRoom], documented_field("the rooms, newest first", "直播间，最新的在前")
    ]
    next: Annotated[
        str | None,
        documented_field(
            "the parameter `after` of the next page; null on the last page",
            "下一页的参数 after；最后一页为 null",
            "1483669725799000,42",
        ),
    ]


class StreamStatus(TypedDict):
    """The status of the user's stream, and its publish URL."""

    stream: Annotated[
        Literal["on", "off"],
        documented_field(
            "on while the provider receives the stream, otherwise off",
            "on 表示服务商正在接收直播流，否则为 off",
            "on",
        ),
    ]
    publishUrl: Annotated[
        str,
        documented_field(
            "secret URL to which the host publishes; it can expire",
            "推流地址，须保密，可能过期",
            f"rtmp://publish.livebackend.example/livebackend/{examples.STREAM_TITLE}?key=96aaffaee4505e6d",
        ),
    ]


class EventChannel(TypedDict):
    """A channel of an event stream, and the number of its last event."""

    channel: Annotated[str, documented_field("name of the channel", "频道名称", "user.7")]
    seq: Annotated[
        int,
        documented_field(
            "number of the last event; a client with another number must read the lists",
            "最近一个事件的编号；客户端已有的编号与之不同时，需要重新读取列表",
            31,
        ),
    ]


class EventTicket(TypedDict):
    """The URL of the user's event stream, and its channels."""

    url: Annotated[
        str,
        documented_field(
            "secret URL of the event stream (Server-Sent Events)",
            "事件流（SSE）的 URL，须保密",
            "http://127.0.0.1:6545/events?ticket=eyJ0eXAiOiJldmVudHMi",
        ),
    ]
    expiresIn: Annotated[
        int,
        documented_field(
            "seconds for which the URL opens connections", "该 URL 可用于建立连接的秒数", 60
        ),
    ]
    channels: Annotated[
        list[EventChannel], documented_field("channels of the stream", "事件流的频道")
    ]


class Order(TypedDict):
    """An order of coins."""

    provider: Annotated[
        str, documented_field("name of the payment provider", "支付服务商的名称", "wechat")
    ]
    orderId: Annotated[
        str,
        documented_field("ID of the order", "订单标识", "0f8fad5bd9cb469fa16570867728950e"),
    ]
    fen: Annotated[int, documented_field("price in fen (1/100 yuan)", "价格（分）", 5000)]
    coins: Annotated[int, documented_field("coins that the payment buys", "支付后到账的金币数", 50)]
    state: Annotated[
        Literal["pending", "paid", "closed", "refunding", "refunded"],
        documented_field("state of the order", "订单状态", "pending"),
    ]
    pay: Annotated[
        dict[str, Any] | None,
        documented_field(
            "parameters for the SDK of the provider; null if the order cannot be paid",
            "调起支付 SDK 的参数；订单不可支付时为 null",
            {"prepayid": "wx201410272009395522657a690389285100"},
        ),
    ]


class Balance(TypedDict):
    """The current coin balance."""

    coins: Annotated[int, documented_field("balance in coins", "金币余额", 20)]


class Record(TypedDict):
    """A coin transfer to or from the user."""

    id: Annotated[int, documented_field("ID of the transfer", "转账标识", 4711)]
    kind: Annotated[
        Literal["gift", "refill", "reversal"],
        documented_field(
            "gift, refill, or reversal (an operator corrected a transfer)",
            "gift 礼物，refill 充值，reversal 冲正（运营人员更正转账）",
            "gift",
        ),
    ]
    coins: Annotated[
        int,
        documented_field(
            "coins of the transfer; negative for spent coins", "金币数，支出为负数", -30
        ),
    ]
    left: Annotated[
        int, documented_field("balance in coins after the transfer", "转账后的金币余额", 20)
    ]
    publicId: Annotated[
        str | None,
        documented_field(
            "public ID of the other user; null if there is none, or the account is removed",
            "对方的公开标识；没有对方或对方已注销时为 null",
            examples.ANN_ID,
        ),
    ]
    nickname: Annotated[
        str | None,
        documented_field(
            "nickname of the other user, or null; null too if this user blocked the sender",
            "对方的昵称，或 null；送礼者被本人拉黑时也为 null",
            "Ann",
        ),
    ]
    description: Annotated[
        str | None,
        documented_field(
            "description of the gift, or null; null too if this user blocked the sender",
            "礼物描述，或 null；送礼者被本人拉黑时也为 null",
            "rose",
        ),
    ]
    time: Annotated[
        str,
        documented_field(
            "when the coins moved; ISO 8601, UTC",
            "金币变动的时间，ISO 8601 格式，UTC 时区",
            examples.REQUEST_TIME,
        ),
    ]


class RecordList(TypedDict):
    """A page of coin transfers."""

    records: Annotated[
        list[Record], documented_field("the transfers, newest first", "转账记录，最新的在前")
    ]
    before: Annotated[
        str | None,
        documented_field(
            "the parameter `before` of the next page; null on the last page",
            "下一页的参数 before；最后一页为 null",
            "4711-30",
        ),
    ]


class Giver(TypedDict):
    """A user who sent gifts to a host."""

    publicId: Annotated[
        str | None,
        documented_field(
            "public ID of the sender; null if the account is removed",
            "送礼者的公开标识；已注销时为 null",
            examples.BEN_ID,
        ),
    ]
    nickname: Annotated[
        str | None,
        documented_field("nickname of the sender, or null", "送礼者的昵称，或 null", "Ben"),
    ]
    headImage: Annotated[
        str | None,
        documented_field(
            "avatar of the sender, or null", "送礼者的头像，或 null", examples.PICTURE
        ),
    ]
    coins: Annotated[
        int,
        documented_field(
            "total of the sender's gifts to the host in coins", "送给该主播的金币总数", 30
        ),
    ]


_HostNames = dict[str, str | None]


class Hosts(TypedDict):
    """The host names of a stream by protocol, with optional ports."""

    publish: Annotated[
        _HostNames,
        documented_field(
            "hosts that receive the stream", "推流域名", {"rtmp": "publish.livebackend.example"}
        ),
    ]
    live: Annotated[
        _HostNames,
        documented_field(
            "hosts of the live stream", "直播域名", {"hls": "live-hls.livebackend.example"}
        ),
    ]
    playback: Annotated[
        _HostNames,
        documented_field(
            "hosts of recordings", "回放域名", {"hls": "playback.livebackend.example"}
        ),
    ]
    play: Annotated[
        _HostNames,
        documented_field(
            "hosts that older apps play from",
            "旧版应用使用的播放域名",
            {"rtmp": "live-rtmp.livebackend.example"},
        ),
    ]


class Stream(TypedDict):
    """A stream with its secret publish key, visible to its host only."""

    id: Annotated[
        str,
        documented_field(
            "zone, hub and title of the stream",
            "直播流标识：区域、直播空间和流名",
            f"z1.livebackend.{examples.STREAM_TITLE}",
        ),
    ]
    hub: Annotated[str, documented_field("hub of the provider", "服务商的直播空间", "livebackend")]
    title: Annotated[
        str,
        documented_field(
            "key of the stream, not the title of the room",
            "流名，不是直播间标题",
            examples.STREAM_TITLE,
        ),
    ]
    publishKey: Annotated[
        str, documented_field("secret for publishing", "推流密钥，须保密", "96aaffaee4505e6d")
    ]
    publishSecurity: Annotated[
        str, documented_field("how publish URLs are signed", "推流地址的签名方式", "static")
    ]
    nonce: Annotated[int, documented_field("value of the provider", "服务商的内部值", 0)]
    disabled: Annotated[
        bool, documented_field("whether the stream is disabled", "直播流是否被禁用", False)
    ]
    disabledTill: Annotated[
        int,
        documented_field(
            "until when the stream is disabled, in seconds since 1970; 0 if it is not, -1 for ever",
            "禁用截止时间（1970年以来的秒数）；0 表示未禁用，-1 表示永久",
            0,
        ),
    ]
    nropEnable: Annotated[Any, documented_field("value of the provider", "服务商的内部值", False)]
    createdAt: Annotated[
        str,
        documented_field(
            "when the stream was created, as the provider states it; can be empty",
            "创建时间，由服务商给出，可能为空",
            examples.REQUEST_TIME,
        ),
    ]
    updatedAt: Annotated[
        str,
        documented_field(
            "when the stream was changed, as the provider states it; can be empty",
            "更新时间，由服务商给出，可能为空",
            examples.REQUEST_TIME,
        ),
    ]
    expireAt: Annotated[
        str,
        documented_field(
            "when the stream expires, as the provider states it; can be empty",
            "过期时间，由服务商给出，可能为空",
            "2017-01-13T02:28:45.799000Z",
        ),
    ]
    hosts: Annotated[Hosts, documented_field("host names by purpose", "按用途分类的域名")]


# The page /docs stores a message of this type as the login token.
LoginToken = Annotated[
    str,
    Field(
        description="login token, for the parameter `token`",
        examples=[examples.LOGIN_TOKEN],
        json_schema_extra={"x-zh": "登录凭证，用作参数 token", "x-login-token": True},
    ),
]
# In spec mode, a ticket is the code itself.
Ticket = Annotated[
    str,
    documented_field(
        "ticket, the parameter `code_v` of the verification", "票据，校验时用作参数 code_v", "6382"
    ),
]
ResetTicket = Annotated[
    str,
    documented_field(
        "ticket, the parameter `code_v` of the password reset",
        "票据，重置密码时用作参数 code_v",
        "638241",
    ),
]
PictureLocation = Annotated[
    str,
    documented_field(
        "location of the picture, for the parameter `headImage`",
        "头像路径，用作参数 headImage",
        examples.PICTURE,
    ),
]
# The API document specifies the stream as JSON inside a string.
StreamText = Annotated[
    Json[Stream],
    documented_field("the stream as a JSON string", "直播流信息，为 JSON 字符串"),
]
OrderToPay = Annotated[
    Order | None,
    documented_field(
        "the order; null if the coins are credited without a payment",
        "订单；无需支付直接到账时为 null",
    ),
]
# The found user: 1 a friend of the searching user, 0 another user, -1 the searching user.
Flag = Annotated[
    Literal["1", "0", "-1"],
    documented_field(
        "1 the found user is a friend, 0 another user, -1 the user's own account",
        "1 已是好友，0 不是好友，-1 本人",
        "0",
    ),
]
