"""Types of the messages in successful responses."""

from typing import Annotated, Any, Literal

from pydantic import Field, Json

# Pydantic rejects typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict


class Profile(TypedDict):
    """The public profile of a user; a value that is not set is null."""

    userId: str
    nickname: str | None
    gender: Literal["0", "1"] | None
    headImage: str | None


class OwnProfile(Profile):
    """The user's own profile.

    `publicId` is the id that strangers see instead of the phone number.
    """

    publicId: str


class PublicProfile(TypedDict):
    """The profile of a user as strangers see it: `publicId` replaces the phone number."""

    publicId: str
    nickname: str | None
    gender: Literal["0", "1"] | None
    headImage: str | None


class PlayUrls(TypedDict):
    """The play URLs of a stream."""

    rtmp: str | None
    hls: str | None
    hdl: str | None


class Friend(Profile):
    """A friend; `title` and `playUrl` are null if the friend is not live."""

    liveStatus: Literal["on", "off"]
    title: str | None
    playUrl: PlayUrls | None


class Friends(TypedDict):
    """The user's friends, live ones first."""

    count: int
    friends: list[Friend]


class Message(Profile):
    """A friend request, with the profile of the other user.

    `flag`: 0 received, 1 accepted by this user, 2 sent, 3 accepted by the other user.
    """

    verifyId: str
    objectId: str
    flag: Literal[0, 1, 2, 3]
    # When the friend request was sent; ISO 8601, UTC.
    time: str


class LiveRoom(PublicProfile):
    """A live room with its host."""

    title: str | None
    playUrl: PlayUrls
    # When the room opened; ISO 8601, UTC.
    time: str


class LiveRooms(TypedDict):
    """A page of live rooms; `next` is the parameter `after` of the next page, or null."""

    rooms: list[LiveRoom]
    next: str | None


class HeartbeatResponse(TypedDict):
    """The state of the user's stream, and its secret publish URL."""

    stream: Literal["on", "off"]
    publishUrl: str


class Order(TypedDict):
    """An order of coins.

    `pay` has the parameters for the payment app; null if the order cannot be paid.
    """

    provider: str
    orderId: str
    fen: int
    coins: int
    state: Literal["pending", "paid", "closed", "refunding", "refunded"]
    pay: dict[str, Any] | None


class Balance(TypedDict):
    """The current coin balance."""

    coins: int


class Record(TypedDict):
    """A coin transfer to or from the user.

    `coins` is negative for outgoing coins, `left` is the balance after the transfer. `publicId` and
    `nickname` are those of the other user, or null.
    """

    id: int
    kind: Literal["gift", "refill", "reversal"]
    coins: int
    left: int
    publicId: str | None
    nickname: str | None
    description: str | None
    # When the coins were transferred; ISO 8601, UTC.
    time: str


class Records(TypedDict):
    """A page of transfers; `before` is the value that requests the next page, or null."""

    records: list[Record]
    before: str | None


class Giver(TypedDict):
    """A user who sent gifts to a host, and the total of these gifts in coins.

    `publicId` is null if the account is removed.
    """

    publicId: str | None
    nickname: str | None
    headImage: str | None
    coins: int


class Hosts(TypedDict):
    """The host names of a stream, with optional ports."""

    publish: dict[str, str | None]
    live: dict[str, str | None]
    playback: dict[str, str | None]
    play: dict[str, str | None]


class Stream(TypedDict):
    """A stream with its secret publish key, visible to its host only."""

    id: str
    hub: str
    title: str
    publishKey: str
    publishSecurity: str
    nonce: int
    disabled: bool
    disabledTill: int
    nropEnable: Any
    createdAt: str
    updatedAt: str
    expireAt: str
    hosts: Hosts


# The page /docs stores a message of this type as the login token.
LoginToken = Annotated[str, Field(json_schema_extra={"x-login-token": True})]
# The API document specifies the stream as JSON inside a string.
StreamText = Json[Stream]
# The found user: 1 a friend of the searching user, 0 another user, -1 the searching user.
Flag = Literal["1", "0", "-1"]
