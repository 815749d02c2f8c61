"""One method per operation. Written by `make client`, out of the declarations."""

from typing import Literal

from pydantic import Json, TypeAdapter

from livebackend.api.response_types import (
    Balance,
    Beat,
    Friends,
    Giver,
    LiveRooms,
    Message,
    Order,
    Profile,
    Records,
    Stream,
)
from livebackend.client.calls import Call, Calls, File

_SEND_CODE: Call[str] = Call(
    "/register",
    TypeAdapter(str),
)
_VERIFY_CODE: Call[None] = Call(
    "/register",
    TypeAdapter(None),
)
_UPLOAD: Call[str] = Call(
    "/upload",
    TypeAdapter(str),
    files=("img",),
)
_REGISTER: Call[None] = Call(
    "/register",
    TypeAdapter(None),
    selector="register",
)
_CHANGE_PROFILE: Call[Profile] = Call(
    "/register",
    TypeAdapter(Profile),
    selector="profile",
    login=True,
)
_REMOVE: Call[None] = Call(
    "/register",
    TypeAdapter(None),
    selector="remove",
    login=True,
)
_LOG_IN: Call[str] = Call(
    "/log",
    TypeAdapter(str),
    repeatable=True,
)
_LOG_OUT: Call[None] = Call(
    "/log",
    TypeAdapter(None),
    selector="logout",
    login=True,
)
_CHANGE_PASSWORD: Call[str] = Call(
    "/log",
    TypeAdapter(str),
    selector="change",
    login=True,
)
_FORGOT_PASSWORD: Call[str] = Call(
    "/log",
    TypeAdapter(str),
    selector="forgot",
)
_RESET_PASSWORD: Call[None] = Call(
    "/log",
    TypeAdapter(None),
    selector="reset",
)
_LIVE: Call[Stream] = Call(
    "/room",
    TypeAdapter(Json[Stream]),
    selector="live",
    login=True,
    repeatable=True,
)
_LEAVE: Call[None] = Call(
    "/room",
    TypeAdapter(None),
    selector="leave",
    login=True,
    repeatable=True,
    already_done="is not live",
)
_HEARTBEAT: Call[Beat] = Call(
    "/room",
    TypeAdapter(Beat),
    selector="heartbeat",
    login=True,
    repeatable=True,
)
_FRIENDLIST: Call[Friends] = Call(
    "/list",
    TypeAdapter(Friends),
    selector="friendlist",
    login=True,
    repeatable=True,
)
_MESSAGELIST: Call[list[Message]] = Call(
    "/list",
    TypeAdapter(list[Message]),
    selector="messagelist",
    login=True,
    repeatable=True,
)
_LIVELIST: Call[LiveRooms] = Call(
    "/list",
    TypeAdapter(LiveRooms),
    selector="livelist",
    login=True,
    repeatable=True,
)
_SEARCH: Call[tuple[Profile, Literal["1", "0", "-1"]]] = Call(
    "/friend",
    TypeAdapter(tuple[Profile, Literal["1", "0", "-1"]]),
    selector="search",
    beside=("flag",),
    login=True,
    repeatable=True,
)
_ADD: Call[None] = Call(
    "/friend",
    TypeAdapter(None),
    selector="add",
    login=True,
    repeatable=True,
    already_done="is a friend already",
)
_DEAL_MESSAGE: Call[None] = Call(
    "/friend",
    TypeAdapter(None),
    selector="dealMessage",
    login=True,
    repeatable=True,
)
_UNFRIEND: Call[None] = Call(
    "/friend",
    TypeAdapter(None),
    selector="delete",
    login=True,
    repeatable=True,
    already_done="is not a friend",
)
_BLOCK: Call[None] = Call(
    "/friend",
    TypeAdapter(None),
    selector="block",
    login=True,
    repeatable=True,
)
_UNBLOCK: Call[None] = Call(
    "/friend",
    TypeAdapter(None),
    selector="unblock",
    login=True,
    repeatable=True,
)
_REFILL: Call[Order | None] = Call(
    "/golden",
    TypeAdapter(Order | None),
    selector="refill",
    login=True,
    has_request_id=True,
)
_SEND_GIFT: Call[None] = Call(
    "/golden",
    TypeAdapter(None),
    selector="send_gift",
    login=True,
    has_request_id=True,
)
_BALANCE: Call[Balance] = Call(
    "/golden",
    TypeAdapter(Balance),
    selector="balance",
    login=True,
    repeatable=True,
)
_RECORDS: Call[Records] = Call(
    "/golden",
    TypeAdapter(Records),
    selector="records",
    login=True,
    repeatable=True,
)
_RANKING: Call[list[Giver]] = Call(
    "/golden",
    TypeAdapter(list[Giver]),
    selector="ranking",
    login=True,
    repeatable=True,
)


class Operations(Calls):
    """Parameters have the names of the API."""

    def send_code(
        self,
        *,
        token: str | None = None,
        userId: str | None = None,
    ) -> str:
        """Send a code to a phone.

        token: the phone that gets the code
        userId: the same, by another name

        Refused with: 0001 0002
        """
        return self.call(_SEND_CODE, token=token, userId=userId)

    def verify_code(
        self,
        *,
        code_v: str,
        code: str,
    ) -> None:
        """Judge a code that was typed.

        code_v: the message of send code
        code: the four digits that were sent

        Refused with: 0004 0005
        """
        return self.call(_VERIFY_CODE, code_v=code_v, code=code)

    def upload(
        self,
        *,
        img: File,
    ) -> str:
        """Keep a picture for the avatar.

        img: the picture, up to 5 MiB

        Refused with: 0006
        """
        return self.call(_UPLOAD, img=img)

    def register(
        self,
        *,
        userId: str,
        password: str,
        headImage: str | None = None,
        gender: Literal["0", "1"] | None = None,
        nickname: str | None = None,
    ) -> None:
        """Open an account.

        userId: phone number, which is the user's name
        password: password, with a letter and a digit at least
        headImage: avatar: the message of upload
        gender: 0 female, 1 male
        nickname: nickname

        Refused with: 0006
        """
        return self.call(
            _REGISTER,
            userId=userId,
            password=password,
            headImage=headImage,
            gender=gender,
            nickname=nickname,
        )

    def change_profile(
        self,
        *,
        nickname: str | None = None,
        gender: Literal["0", "1"] | None = None,
        headImage: str | None = None,
    ) -> Profile:
        """Change one's nickname, gender or picture.

        nickname: nickname
        gender: 0 female, 1 male
        headImage: avatar: the message of upload

        Refused with: 0006 0011 0012
        """
        return self.call(_CHANGE_PROFILE, nickname=nickname, gender=gender, headImage=headImage)

    def remove(
        self,
        *,
        password: str,
    ) -> None:
        """End one's account, with all that is personal in it.

        password: password

        Refused with: 0006 0008 0011 0012
        """
        return self.call(_REMOVE, password=password)

    def log_in(
        self,
        *,
        userId: str,
        password: str,
        expire_in: int | None = None,
    ) -> str:
        """Log in.

        userId: phone number, which is the user's name
        password: password
        expire_in: how long the token lives, in seconds; else 7 days

        Refused with: 0007 0008
        """
        return self.call(_LOG_IN, userId=userId, password=password, expire_in=expire_in)

    def log_out(self) -> None:
        """End this login token.

        Refused with: 0006 0011 0012
        """
        return self.call(_LOG_OUT)

    def change_password(
        self,
        *,
        oldPassword: str,
        password: str,
        expire_in: int | None = None,
    ) -> str:
        """Change one's password; every login token ends but the one in the reply.

        oldPassword: the password until now
        password: password, with a letter and a digit at least
        expire_in: how long the token lives, in seconds; else 7 days

        Refused with: 0006 0008 0011 0012
        """
        return self.call(
            _CHANGE_PASSWORD,
            oldPassword=oldPassword,
            password=password,
            expire_in=expire_in,
        )

    def forgot_password(
        self,
        *,
        userId: str,
    ) -> str:
        """Send a code to reset a password with.

        userId: phone number, which is the user's name

        Refused with: 0002
        """
        return self.call(_FORGOT_PASSWORD, userId=userId)

    def reset_password(
        self,
        *,
        userId: str,
        password: str,
        code_v: str | None = None,
        code: str | None = None,
    ) -> None:
        """Set a new password with the code; every login token ends.

        userId: phone number, which is the user's name
        code_v: the message of forgot password
        code: the six digits that were sent
        password: password, with a letter and a digit at least

        Refused with: 0004 0005 0006
        """
        return self.call(
            _RESET_PASSWORD,
            userId=userId,
            code_v=code_v,
            code=code,
            password=password,
        )

    def live(
        self,
        *,
        title: str | None = None,
    ) -> Stream:
        """Go live; the message is the stream's JSON, as a string.

        title: the room's title

        Refused with: 0009 0011 0012
        """
        return self.call(_LIVE, title=title)

    def leave(self) -> None:
        """Close one's room.

        Refused with: 0009 0011 0012
        """
        return self.call(_LEAVE)

    def heartbeat(self) -> Beat:
        """Tell whether one's stream is on air, and where to publish it.

        Refused with: 0009 0011 0012
        """
        return self.call(_HEARTBEAT)

    def friendlist(self) -> Friends:
        """List one's friends, those who are live first.

        Refused with: 0006 0011 0012
        """
        return self.call(_FRIENDLIST)

    def messagelist(self) -> list[Message]:
        """List one's messages, the newest first.

        Refused with: 0006 0011 0012
        """
        return self.call(_MESSAGELIST)

    def livelist(
        self,
        *,
        after: str | None = None,
    ) -> LiveRooms:
        """List all who are live, the latest first, 50 a page.

        after: `next` of the page before

        Refused with: 0006 0011 0012
        """
        return self.call(_LIVELIST, after=after)

    def search(
        self,
        *,
        userId: str,
    ) -> tuple[Profile, Literal["1", "0", "-1"]]:
        """Find somebody by phone.

        userId: whose phone

        Refused with: 0006 0007 0011 0012
        """
        return self.call(_SEARCH, userId=userId)

    def add(
        self,
        *,
        userId: str,
    ) -> None:
        """Ask somebody to be friends.

        userId: whose phone

        Refused with: 0006 0007 0010 0011 0012
        """
        return self.call(_ADD, userId=userId)

    def deal_message(
        self,
        *,
        userId: str,
        verifyId: str,
        objectId: str,
        behaviour: Literal["accept", "delete"],
    ) -> None:
        """Accept a request, or delete a message.

        userId: who asked
        verifyId: verifyId of the message in the list
        objectId: objectId of the message in the list
        behaviour: accept the request, or delete the message

        Refused with: 0006 0011 0012
        """
        return self.call(
            _DEAL_MESSAGE,
            userId=userId,
            verifyId=verifyId,
            objectId=objectId,
            behaviour=behaviour,
        )

    def unfriend(
        self,
        *,
        userId: str,
    ) -> None:
        """End a friendship.

        userId: the friend's phone

        Refused with: 0006 0011 0012
        """
        return self.call(_UNFRIEND, userId=userId)

    def block(
        self,
        *,
        userId: str,
    ) -> None:
        """Part from somebody, and see no request of his any more.

        userId: whose phone

        Refused with: 0006 0007 0011 0012
        """
        return self.call(_BLOCK, userId=userId)

    def unblock(
        self,
        *,
        userId: str,
    ) -> None:
        """See somebody's requests again.

        userId: whose phone

        Refused with: 0006 0007 0011 0012
        """
        return self.call(_UNBLOCK, userId=userId)

    def refill(
        self,
        *,
        money: Literal[10, 50, 100],
        requestId: str | None = None,
    ) -> Order | None:
        """Buy coins.

        money: yuan
        requestId: makes a repeated call harmless: the same id is done once

        Refused with: 0011 0012 0013
        """
        return self.call(_REFILL, money=money, requestId=requestId)

    def send_gift(
        self,
        *,
        value: int,
        object: str,
        description: str,
        requestId: str | None = None,
    ) -> None:
        """Give coins to a host.

        value: whole coins
        object: the host's phone
        description: what is given
        requestId: makes a repeated call harmless: the same id is done once

        Refused with: 0011 0012 0013
        """
        return self.call(
            _SEND_GIFT,
            value=value,
            object=object,
            description=description,
            requestId=requestId,
        )

    def balance(self) -> Balance:
        """Tell how many coins one has.

        Refused with: 0011 0012 0013
        """
        return self.call(_BALANCE)

    def records(
        self,
        *,
        before: str | None = None,
        limit: int | None = None,
    ) -> Records:
        """List what one's coins did, the newest first.

        before: `before` of the page before
        limit: how many at most

        Refused with: 0011 0012 0013
        """
        return self.call(_RECORDS, before=before, limit=limit)

    def ranking(
        self,
        *,
        object: str,
    ) -> list[Giver]:
        """List who gave a host most.

        object: the host's phone

        Refused with: 0011 0012 0013
        """
        return self.call(_RANKING, object=object)
