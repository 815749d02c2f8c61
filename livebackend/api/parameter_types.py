"""Parameter types: phone numbers, passwords, amounts, texts, cursors of lists."""

import re
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)

from livebackend.api import cursors, examples
from livebackend.api.bilingual_text import documented_field
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.forms import Upload
from livebackend.api.parameters import Reasons, invalid
from livebackend.api.visible_text import has_visible_character
from livebackend.ledger import history
from livebackend.services import live_room_list
from livebackend.services.friends import MessageId

# Line and paragraph separators, and characters that change the direction of text. They would break
# or reorder the text around them on other users' screens.
_UNFIT_FOR_DISPLAY = re.compile("[\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def _converting_validator(
    convert: Callable[[str], object], reason: ErrorReason, **limits: int
) -> BeforeValidator:
    """Return a validator that converts a text with `convert`.

    `convert` must raise ValueError if the text is invalid.
    """

    def validate(value: object) -> object:
        try:
            return convert(str(value))
        except ValueError:
            raise invalid(reason, **limits) from None

    return BeforeValidator(validate)


def has_control_character(text: str) -> bool:
    """Return whether a text has a control character, such as NUL."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def _reject_control_characters(value: str) -> str:
    if has_control_character(value):
        raise invalid(ErrorReason.CONTROL_CHARACTER)
    return value


def _reject_unfit_for_display(value: str) -> str:
    if _UNFIT_FOR_DISPLAY.search(value):
        raise invalid(ErrorReason.CONTROL_CHARACTER)
    return value


def _reject_invisible(value: str) -> str:
    if not has_visible_character(value):
        raise invalid(ErrorReason.MISSING)
    return value


def _require_letter_and_digit(value: str) -> str:
    if not (any(map(str.isalpha, value)) and re.search("[0-9]", value)):
        raise invalid(ErrorReason.WEAK_PASSWORD)
    return value


def _require_phone(value: str, info: ValidationInfo) -> str:
    phone_pattern: str = info.context["phone_pattern"]  # type: ignore[index]  # set by Parameters.parse()
    # The configured pattern alone is not sufficient: the tables accept only numbers with 11 digits.
    if not (re.fullmatch("[0-9]{11}", value) and re.fullmatch(phone_pattern, value)):
        raise invalid(ErrorReason.NOT_A_PHONE_NUMBER)
    return value


def _require_user_id(value: str, info: ValidationInfo) -> str:
    return value if re.fullmatch(PUBLIC_ID, value) else _require_phone(value, info)


def _require_match(text: str, pattern: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError(text)
    return text


def whole_number(text: str, *, largest: int) -> int:
    """Parse 1 to `largest`: ASCII digits, no leading zero, optionally followed by 元.

    Raises ValueError.
    """
    match = re.fullmatch("([1-9][0-9]{0,17})元?", text)
    if not match or int(match[1]) > largest:
        raise ValueError(text)
    return int(match[1])


def _seconds_or_none(value: object) -> int | None:
    match = re.fullmatch("([+-]?)0*([0-9]+)", value) if isinstance(value, str) else None
    if not match:
        return None
    # Only ten digits are read: they already exceed every limit, and int() raises ValueError for
    # thousands of digits.
    return int(match[1] + match[2][:10])


def _text_or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


def _parse_page_length(text: str) -> int:
    length = int(_require_match(text, "[1-9][0-9]{0,2}"))
    if length > history.MAX_RECORDS:
        raise ValueError(text)
    return length


def _parse_money(text: str) -> int:
    yuan = whole_number(text, largest=max(_AMOUNTS_YUAN))
    if yuan not in _AMOUNTS_YUAN:
        raise ValueError(text)
    return yuan


# The default of the column accounts.public_id generates these ids.
PUBLIC_ID = "u_[0-9a-f]{20}"
_REQUEST_ID = "[A-Za-z0-9._-]{1,64}"
_MAX_GIFT_COINS = 100_000
# The amounts of coins for sale, by their price in yuan (API document, 金币系统).
_AMOUNTS_YUAN = (10, 50, 100)


def _parameter_schema(
    english: str, chinese: str, example: str | int | None = None, **schema: Any
) -> WithJsonSchema:
    """Return the JSON Schema of a parameter for which pydantic cannot derive a schema."""
    examples = {} if example is None else {"examples": [example]}
    return WithJsonSchema({**schema, "description": english, "x-zh": chinese, **examples})


_TEXT_REASONS = Reasons(
    ErrorReason.CONTROL_CHARACTER, ErrorReason.MISSING, ErrorReason.INVALID_VALUE
)

# Place these validators after a length constraint, so that they do not search long texts.
NoControl = AfterValidator(_reject_control_characters)
FitForDisplay = AfterValidator(_reject_unfit_for_display)
Visible = AfterValidator(_reject_invisible)

Phone = Annotated[
    str,
    AfterValidator(_require_phone),
    _parameter_schema(
        "phone number, which identifies the user",
        "手机号，即用户标识",
        "13800000002",
        type="string",
        format="phone",
    ),
    Reasons(ErrorReason.NOT_A_PHONE_NUMBER, ErrorReason.INVALID_VALUE),
]
# A user whom the requesting user may know only by the public id, such as a host.
UserId = Annotated[
    str,
    AfterValidator(_require_user_id),
    _parameter_schema(
        "phone number or public ID of the user",
        "用户的手机号或公开标识",
        "13800000002",
        type="string",
        format="user-id",
    ),
    Reasons(ErrorReason.NOT_A_PHONE_NUMBER, ErrorReason.INVALID_VALUE),
]
# The password of an existing account. It can violate the rules for new passwords, because the
# account can be older than the rules.
PasswordAttempt = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    NoControl,
    Reasons(ErrorReason.CONTROL_CHARACTER, ErrorReason.INVALID_VALUE),
    documented_field("password", "密码", "harbour-42"),
]
Password = Annotated[
    str,
    StringConstraints(min_length=8, max_length=128),
    NoControl,
    AfterValidator(_require_letter_and_digit),
    Reasons(ErrorReason.CONTROL_CHARACTER, ErrorReason.WEAK_PASSWORD, ErrorReason.INVALID_VALUE),
    documented_field(
        "password with at least one letter and one digit",
        "密码，须同时包含字母和数字",
        "harbour-42",
    ),
]
Gender = Annotated[
    Literal["0", "1"],
    Reasons(ErrorReason.INVALID_VALUE),
    documented_field("0 female, 1 male", "0 女，1 男", "0"),
]
Nickname = Annotated[
    str,
    StringConstraints(min_length=1, max_length=32),
    NoControl,
    FitForDisplay,
    Visible,
    _TEXT_REASONS,
    documented_field("nickname", "昵称", "Ann"),
]
HeadImage = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    NoControl,
    Reasons(ErrorReason.CONTROL_CHARACTER, ErrorReason.INVALID_VALUE),
    documented_field(
        "avatar, the value of `message` in the upload response",
        "头像路径，即上传接口返回的 message",
        examples.PICTURE,
    ),
]
UploadedFile = Annotated[
    Upload,
    WithJsonSchema({"type": "string", "contentMediaType": "application/octet-stream"}),
    Reasons(ErrorReason.NOT_A_FILE),
]
# A text that is not validated here: the service checks it, and counts a malformed text as a wrong
# attempt. A file counts as an empty text.
UncheckedText = Annotated[str, BeforeValidator(_text_or_empty), WithJsonSchema({"type": "string"})]
# A number of seconds; any other value counts as an absent parameter.
Seconds = Annotated[
    int | None, BeforeValidator(_seconds_or_none), WithJsonSchema({"type": "integer"})
]
MessageIdParameter = Annotated[
    MessageId,
    _converting_validator(cursors.parse_message_id, ErrorReason.NOT_A_MESSAGE_ID),
    _parameter_schema(
        "message ID (phone number,timestamp)",
        "消息标识：“手机号,时间戳”",
        "13800000002,1483669725799000",
        type="string",
        pattern=f"^{cursors.MESSAGE_ID}$",
    ),
    Reasons(ErrorReason.NOT_A_MESSAGE_ID),
]
Title = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    NoControl,
    FitForDisplay,
    Visible,
    _TEXT_REASONS,
    documented_field("title of the room", "直播间标题", "hello"),
]
Description = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    NoControl,
    FitForDisplay,
    Visible,
    _TEXT_REASONS,
    documented_field("description of the gift", "礼物描述", "rose"),
]
RequestId = Annotated[
    str,
    _converting_validator(
        partial(_require_match, pattern=_REQUEST_ID), ErrorReason.NOT_A_REQUEST_ID
    ),
    _parameter_schema(
        "idempotency key; requests with the same key are executed once",
        "幂等键：相同 requestId 的请求只执行一次，可安全重试",
        "gift-1",
        type="string",
        pattern=f"^{_REQUEST_ID}$",
    ),
    Reasons(ErrorReason.NOT_A_REQUEST_ID),
]
Coins = Annotated[
    int,
    _converting_validator(
        partial(whole_number, largest=_MAX_GIFT_COINS),
        ErrorReason.NOT_A_NUMBER,
        min=1,
        max=_MAX_GIFT_COINS,
    ),
    _parameter_schema(
        "value in coins", "礼物价值（金币）", 30, type="integer", minimum=1, maximum=_MAX_GIFT_COINS
    ),
    Reasons(ErrorReason.NOT_A_NUMBER),
]
PageLength = Annotated[
    int,
    _converting_validator(
        _parse_page_length, ErrorReason.NOT_A_NUMBER, min=1, max=history.MAX_RECORDS
    ),
    _parameter_schema(
        "maximum number of records",
        "最多返回的条数",
        20,
        type="integer",
        minimum=1,
        maximum=history.MAX_RECORDS,
    ),
    Reasons(ErrorReason.NOT_A_NUMBER),
]
HistoryCursorParameter = Annotated[
    history.HistoryCursor,
    _converting_validator(cursors.parse_history_cursor, ErrorReason.NOT_A_CURSOR),
    _parameter_schema(
        "`before` from the previous page",
        "上一页响应中的 before",
        "4711-30",
        type="string",
        pattern=f"^{cursors.HISTORY_CURSOR}$",
    ),
    Reasons(ErrorReason.NOT_A_CURSOR),
]
RoomCursorParameter = Annotated[
    live_room_list.RoomCursor,
    _converting_validator(cursors.parse_room_cursor, ErrorReason.NOT_A_CURSOR),
    _parameter_schema(
        "`next` from the previous page",
        "上一页响应中的 next",
        "1483669725799000,42",
        type="string",
        pattern=f"^{cursors.ROOM_CURSOR}$",
    ),
    Reasons(ErrorReason.NOT_A_CURSOR),
]
Money = Annotated[
    int,
    _converting_validator(_parse_money, ErrorReason.NOT_AN_AMOUNT),
    _parameter_schema(
        "amount in yuan", "充值金额（元）", 50, type="integer", enum=[*_AMOUNTS_YUAN]
    ),
    Reasons(ErrorReason.NOT_AN_AMOUNT),
]
