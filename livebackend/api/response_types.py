"""What the message of a successful reply holds, key by key."""

from typing import Annotated, Any, Literal

from pydantic import Field, Json

# Pydantic takes the standard library's own from Python 3.12 on.
from typing_extensions import TypedDict


class Profile(TypedDict):
    """Somebody, as others see him. What was never given is null."""

    userId: str
    nickname: str | None
    gender: Literal["0", "1"] | None
    headImage: str | None


class PlayUrls(TypedDict):
    """Where a stream is watched."""

    rtmp: str | None
    hls: str | None
    hdl: str | None


class Friend(Profile):
    """A friend; `title` and `playUrl` are null when he is not live."""

    liveStatus: Literal["on", "off"]
    title: str | None
    playUrl: PlayUrls | None


class Friends(TypedDict):
    """One's friends: those who are live first."""

    count: int
    friends: list[Friend]


class Message(Profile):
    """A request to be friends; the profile is the other side's.

    `flag`: 0 for me to accept, 1 accepted by me, 2 waiting for the other, 3 agreed.
    """

    verifyId: str
    objectId: str
    flag: Literal[0, 1, 2, 3]
    # ISO 8601, UTC.
    time: str


class LiveRoom(Profile):
    """Somebody who is live."""

    title: str | None
    playUrl: PlayUrls
    # Since when; ISO 8601, UTC.
    time: str


class LiveRooms(TypedDict):
    """A page of those who are live; `next` is the following call's `after`, null on the last."""

    rooms: list[LiveRoom]
    next: str | None


class Beat(TypedDict):
    """What a broadcaster hears of his stream; the URL is for him alone."""

    stream: Literal["on", "off"]
    publishUrl: str


class Order(TypedDict):
    """Coins that are ordered; `pay` is what the app hands to the provider's, null once paid."""

    provider: str
    orderId: str
    fen: int
    coins: int
    state: Literal["pending", "paid", "closed", "refunding", "refunded"]
    pay: dict[str, Any] | None


class Balance(TypedDict):
    """How many coins there are, now."""

    coins: int


class Record(TypedDict):
    """Coins that moved: `coins` is negative for what went away, `left` what there was afterwards.

    `nickname` is the other side's, null where that is nobody or has none.
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
    """A page of records; `before` goes into the call for the following page, null on the last."""

    records: list[Record]
    before: str | None


class Giver(TypedDict):
    """Somebody who gave to a host, and how much."""

    nickname: str | None
    headImage: str | None
    coins: int


class Hosts(TypedDict):
    """The names of the servers of a stream; each may bear a port."""

    publish: dict[str, str | None]
    live: dict[str, str | None]
    playback: dict[str, str | None]
    play: dict[str, str | None]


class Stream(TypedDict):
    """A stream as its broadcaster gets it; the publish key is for him alone."""

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


# What a page of ours keeps for the calls that follow.
LoginToken = Annotated[str, Field(json_schema_extra={"x-login-token": True})]
# The document prints the stream's JSON inside a string.
StreamText = Json[Stream]
# Beside the profile that was found: a friend, a stranger, oneself.
Flag = Literal["1", "0", "-1"]
