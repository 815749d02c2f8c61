"""Types of the messages of successful responses."""

from typing import Annotated, Any, Literal

from pydantic import Field, Json

# Pydantic takes the standard library's own from Python 3.12 on.
from typing_extensions import TypedDict


class Profile(TypedDict):
    """The public profile of a user. A value that was never set is null."""

    userId: str
    nickname: str | None
    gender: Literal["0", "1"] | None
    headImage: str | None


class PlayUrls(TypedDict):
    """The play URLs of a stream."""

    rtmp: str | None
    hls: str | None
    hdl: str | None


class Friend(Profile):
    """A friend; `title` and `playUrl` are null when the friend is not live."""

    liveStatus: Literal["on", "off"]
    title: str | None
    playUrl: PlayUrls | None


class Friends(TypedDict):
    """The friends of the user: those who are live first."""

    count: int
    friends: list[Friend]


class Message(Profile):
    """A friend request; the profile is that of the other user.

    `flag`: 0 received, 1 accepted by this user, 2 sent, 3 accepted by the other user.
    """

    verifyId: str
    objectId: str
    flag: Literal[0, 1, 2, 3]
    # ISO 8601, UTC.
    time: str


class LiveRoom(Profile):
    """A host who is live."""

    title: str | None
    playUrl: PlayUrls
    # When the room opened; ISO 8601, UTC.
    time: str


class LiveRooms(TypedDict):
    """A page of hosts who are live; `next` is `after` of the next page, null on the last."""

    rooms: list[LiveRoom]
    next: str | None


class Beat(TypedDict):
    """The state of the host's own stream; the publish URL is secret."""

    stream: Literal["on", "off"]
    publishUrl: str


class Order(TypedDict):
    """An order of coins; `pay` holds the parameters of the payment app, null once paid."""

    provider: str
    orderId: str
    fen: int
    coins: int
    state: Literal["pending", "paid", "closed", "refunding", "refunded"]
    pay: dict[str, Any] | None


class Balance(TypedDict):
    """The balance of coins at this moment."""

    coins: int


class Record(TypedDict):
    """A transfer: `coins` is negative for an expense, `left` is the balance afterwards.

    `nickname` is that of the other user; null without one, or without a nickname.
    """

    id: int
    kind: Literal["gift", "refill", "reversal"]
    coins: int
    left: int
    nickname: str | None
    description: str | None
    # ISO 8601, UTC.
    time: str


class Records(TypedDict):
    """A page of transfers; `before` is that of the next page, null on the last."""

    records: list[Record]
    before: str | None


class Giver(TypedDict):
    """A user who gave coins to a host, and how many."""

    nickname: str | None
    headImage: str | None
    coins: int


class Hosts(TypedDict):
    """The host names of a stream, each with an optional port."""

    publish: dict[str, str | None]
    live: dict[str, str | None]
    playback: dict[str, str | None]
    play: dict[str, str | None]


class Stream(TypedDict):
    """A stream, for its host only: the publish key is secret."""

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


# Marks the message that the demo page stores as its login token.
LoginToken = Annotated[str, Field(json_schema_extra={"x-login-token": True})]
# The document prints the stream's JSON inside a string.
StreamText = Json[Stream]
# The found user is a friend, another user, or the user of the request.
Flag = Literal["1", "0", "-1"]
