"""The calls of the load, each with a check of its response."""

import json
from typing import Any

from PIL import Image

from livebackend.core.errors import DomainError
from livebackend.services.login_tokens import LoginTokens
from livebackend_client import ErrorReason
from tests.chaos.classification import Call, Check
from tests.chaos.users import PASSWORD, Account, User
from tests.support.pictures import encode_image

_PICTURE = encode_image(Image.new("RGB", (16, 16), "teal"), "PNG")


def friend_list(user: User) -> Call:
    form = {"friendlist": "1", "token": user.token}
    return Call("friend list", "/list", form, "0006", _names_friends(user))


def message_list(user: User) -> Call:
    def check(envelope: dict[str, Any]) -> str:
        phones = [message["userId"] for message in envelope["message"] or []]
        expected_phones = [applicant.phone for applicant in user.applicants]
        return "" if phones == expected_phones else f"messages of {phones}"

    form = {"messagelist": "1", "token": user.token}
    return Call("message list", "/list", form, "0006", _successful(check))


def search(user: User, found: Account, nickname: str, flag: str) -> Call:
    def check(envelope: dict[str, Any]) -> str:
        profile = envelope["message"]
        actual = (profile["userId"], profile["nickname"], envelope.get("flag"))
        return "" if actual == (found.phone, nickname, flag) else f"found {actual}"

    form = {"search": "1", "token": user.token, "userId": found.phone}
    return Call("search", "/friend", form, "0006", _successful(check))


def log_in(user: User, tokens: LoginTokens) -> Call:
    def check(envelope: dict[str, Any]) -> str:
        try:
            account_id = tokens.read(envelope["message"]).account_id
        except DomainError as error:
            return f"token: {error!r}"
        return "" if account_id == user.account.id else f"token of account {account_id}"

    form = {"userId": user.account.phone, "password": PASSWORD, "expire_in": "86400"}
    return Call("login", "/log", form, "0008", _successful(check))


def live(user: User, title: str, *, can_be_opening: bool) -> Call:
    """Return the call that opens a room; an interrupted attempt can still be opening it."""

    def check(envelope: dict[str, Any]) -> str:
        stream = json.loads(envelope["message"])
        return "" if stream.get("publishKey") else "no publishKey"

    form = {"live": "1", "token": user.token, "title": title}
    reason = "upstream_failed" if can_be_opening else ""
    return Call("live", "/room", form, "0009", _successful(check), refusal_reason=reason)


def leave(user: User, *, can_be_closed: bool) -> Call:
    """Return the call that closes the room; an earlier attempt can have closed it."""

    def check(envelope: dict[str, Any]) -> str:
        is_done = envelope["result"] == "0000" or (can_be_closed and envelope["result"] == "0009")
        return "" if is_done else "the room is not open"

    return Call("leave", "/room", {"leave": "1", "token": user.token}, "0009", check)


def gift(user: User, host: Account, request_id: str) -> Call:
    form = {
        "send_gift": "1",
        "token": user.token,
        "value": "1",
        "object": host.phone,
        "description": "a rose",
        "requestId": request_id,
    }
    return Call(
        "gift",
        "/golden",
        form,
        "0013",
        _successful(lambda _: ""),
        refusal_reason=ErrorReason.LEDGER_BUSY,
    )


def profile(user: User, nickname: str) -> Call:
    form = {"profile": "1", "token": user.token, "nickname": nickname}
    return Call("profile", "/register", form, "0006", _successful(lambda _: ""))


def upload() -> Call:
    def check(envelope: dict[str, Any]) -> str:
        return "" if "/pictures/" in str(envelope["message"]) else "no URL of a picture"

    return Call("upload", "/upload", {}, "0006", _successful(check), picture=_PICTURE)


def _names_friends(user: User) -> Check:
    expected = [(friend.phone, friend.nickname, "off") for friend in user.friends]

    def check(envelope: dict[str, Any]) -> str:
        friends = envelope["message"]["friends"]
        actual = [
            (friend["userId"], friend["nickname"], friend["liveStatus"]) for friend in friends
        ]
        return "" if actual == expected else f"friends {actual}"

    return _successful(check)


def _successful(check: Check) -> Check:
    """Return a check that first requires the result 0000."""

    def check_result(envelope: dict[str, Any]) -> str:
        return check(envelope) if envelope["result"] == "0000" else "not successful"

    return check_result
