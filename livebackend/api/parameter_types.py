"""The types of parameters: phone numbers, passwords, amounts, texts."""

import re
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    ValidationInfo,
)

from livebackend.api.error_reasons import Reason
from livebackend.api.parameters import Reading, Rule, Says, broken
from livebackend.api.serializers import EPOCH
from livebackend.ledger import history
from livebackend.services import live_rooms
from livebackend.services.friends import MessageId

# Line and paragraph separators, and what turns the direction of the text around it: a nickname
# with these would rearrange the screen of whoever reads it.
_UNFIT_FOR_DISPLAY = re.compile("[\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def pattern(expression: str, reason: Reason) -> Rule:
    """Text that is wholly `expression`."""
    compiled = re.compile(expression)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise broken(reason)
        return value

    return Rule(check, schema={"pattern": f"^{expression}$"})


def one_of(*values: str) -> Rule:
    """Text that is one of these."""

    def check(value: str) -> str:
        if value not in values:
            raise broken(Reason.NOT_A_VALUE)
        return value

    return Rule(check, schema={"enum": list(values)})


def length(shortest: int, longest: int) -> Rule:
    """Text of so many characters."""

    def check(value: str) -> str:
        if len(value) < shortest:
            raise broken(Reason.TOO_SHORT)
        if len(value) > longest:
            raise broken(Reason.TOO_LONG)
        return value

    return Rule(check, schema={"minLength": shortest, "maxLength": longest})


def parsed(parse: Callable[[str], int], reason: Reason, **schema: Any) -> Reading:
    """Text that `parse` makes a number of; it raises ValueError for what it does not know."""

    def check(value: object) -> int:
        try:
            return parse(str(value))
        except ValueError:
            raise broken(reason) from None

    return Reading(check, schema={"type": "integer", **schema})


T = TypeVar("T")


def parsed_text(expression: str, reason: Reason, parse: Callable[[str], T]) -> Reading:
    """Text that is wholly `expression`, and what `parse` makes of it."""
    compiled = re.compile(expression)

    def check(value: object) -> T:
        text = str(value)
        if not compiled.fullmatch(text):
            raise broken(reason)
        return parse(text)

    return Reading(check, schema={"type": "string", "pattern": f"^{expression}$"})


def _message_id(text: str) -> MessageId:
    # The comma may be a full-width one.
    phone, _, number = text.replace("，", ",").partition(",")
    return MessageId(phone, int(number))


def _records_position(text: str) -> history.Place:
    transfer_id, _, coins = text.partition("-")
    return history.Place(int(transfer_id), int(coins))


def _rooms_position(text: str) -> live_rooms.Place:
    microseconds, _, room_id = text.partition(",")
    return live_rooms.Place(EPOCH + timedelta(microseconds=int(microseconds)), int(room_id))


def _no_control_characters(value: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise broken(Reason.CONTROL_CHARACTER)
    return value


def _fit_for_display(value: str) -> str:
    if _UNFIT_FOR_DISPLAY.search(value):
        raise broken(Reason.CONTROL_CHARACTER)
    return value


def _visible(value: str) -> str:
    if not value.strip():
        raise broken(Reason.MISSING)
    return value


def _letter_and_digit(value: str) -> str:
    if not (any(map(str.isalpha, value)) and re.search("[0-9]", value)):
        raise broken(Reason.WEAK)
    return value


def _phone(value: str, info: ValidationInfo) -> str:
    phones: str = info.context["phones"]  # type: ignore[index]  # read() gives it
    # The setting chooses among what the tables and the messages' ids can hold.
    if not (re.fullmatch("[0-9]{11}", value) and re.fullmatch(phones, value)):
        raise broken(Reason.NOT_A_PHONE)
    return value


def whole_number(text: str, *, largest: int) -> int:
    """ASCII digits without a leading zero, from 1 to `largest`; a trailing 元 is tolerated."""
    match = re.fullmatch("([1-9][0-9]{0,17})元?", text)
    if not match or int(match[1]) > largest:
        raise ValueError(text)
    return int(match[1])


def _page_length(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]?|100", text):
        raise ValueError(text)
    return int(text)


def _money(text: str) -> int:
    yuan = whole_number(text, largest=100)
    if yuan not in (10, 50, 100):
        raise ValueError(text)
    return yuan


# No control characters, checked after the length: a long text is not read to its end.
NoControl = AfterValidator(_no_control_characters)
Displayed = AfterValidator(_fit_for_display)

Phone = Annotated[
    str,
    Rule(_phone, schema={"format": "phone"}),
    Says("phone number, which is the user's name", "手机号，即用户名", "13800000002"),
]
# Anything that may be a password: whether it is the right one is asked elsewhere.
TypedPassword = Annotated[str, length(1, 128), NoControl, Says("password", "密码", "harbour-42")]
Password = Annotated[
    str,
    length(8, 128),
    NoControl,
    AfterValidator(_letter_and_digit),
    Says("password, with a letter and a digit at least", "密码，同时包括字母和数字", "harbour-42"),
]
Gender = Annotated[str, one_of("0", "1"), Says("0 female, 1 male", "0 女，1 男", "0")]
Nickname = Annotated[
    str,
    length(1, 32),
    NoControl,
    Displayed,
    AfterValidator(_visible),
    Says("nickname", "昵称", "Ann"),
]
HeadImage = Annotated[
    str,
    length(1, 255),
    NoControl,
    Says("avatar: the message of upload", "头像完整路径名，即上传返回的 message"),
]
MessageName = Annotated[
    MessageId,
    parsed_text("[0-9]{11}[,，][0-9]{1,18}", Reason.NOT_A_MESSAGE_ID, _message_id),
    Says("a message's id", "消息标识：“电话号码,时间戳”", "13800000002,1483669725799000"),
]
Title = Annotated[
    str, length(1, 100), NoControl, Displayed, Says("the room's title", "直播间标题", "hello")
]
Description = Annotated[
    str, length(1, 200), NoControl, Displayed, Says("what is given", "礼物描述", "rose")
]
RequestId = Annotated[
    str,
    pattern("[A-Za-z0-9._-]{1,64}", Reason.NOT_A_REQUEST_ID),
    Says(
        "makes a repeated call harmless: the same id is done once",
        "请求标识：同一标识只执行一次，可安全重试",
        "gift-1",
    ),
]
Coins = Annotated[
    int,
    parsed(partial(whole_number, largest=100_000), Reason.NOT_A_NUMBER, minimum=1, maximum=100_000),
    Says("whole coins", "礼物价值（金币）", "30"),
]
PageLength = Annotated[
    int,
    parsed(_page_length, Reason.NOT_A_NUMBER, minimum=1, maximum=100),
    Says("how many at most", "最多多少条", "20"),
]
RecordsPosition = Annotated[
    history.Place,
    parsed_text("[0-9]{1,18}-[0-9]{1,18}", Reason.NOT_A_PLACE, _records_position),
    Says("`before` of the page before", "上一页返回的 before", "4711-30"),
]
RoomsPosition = Annotated[
    live_rooms.Place,
    parsed_text("[0-9]{1,16},[0-9]{1,18}", Reason.NOT_A_PLACE, _rooms_position),
    Says("`next` of the page before", "上一页返回的 next", "1483669725799000,42"),
]
Money = Annotated[
    int,
    parsed(_money, Reason.NOT_AN_AMOUNT, enum=[10, 50, 100]),
    Says("yuan", "充值金额（元）", "50"),
]
