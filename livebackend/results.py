"""Every code, reason and shape of a reply: the app's whole vocabulary of outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any


class Result(Enum):
    """A four-digit result code, with what it means in Chinese and in English."""

    OK = "0000", "成功", "success"
    PHONE_TAKEN = "0001", "该手机号已被注册", "phone already registered"
    CODE_NOT_SENT = "0002", "其他错误", "the code was not sent"
    NOT_A_CALL = "0003", "不是本接口的调用", "not a call of this API"
    WRONG_CODE = "0004", "验证码错误", "wrong code"
    TOO_MANY_TRIES = "0005", "验证码错误次数过多", "too many wrong codes"
    REFUSED = "0006", "未知错误", "refused for another reason"
    NO_SUCH_USER = "0007", "用户不存在", "no such user"
    WRONG_PASSWORD = "0008", "密码错误", "wrong password"
    BAD_REQUEST = "0009", "API错误，bad request", "API error, bad request"
    ALREADY_FRIENDS = "0010", "已经互为好友", "already friends"
    TOKEN_EXPIRED = "0011", "登录已过期", "login token expired"
    TOKEN_INVALID = "0012", "登录凭证缺失或无效", "login token missing or invalid"
    NOT_UPDATED = "0013", "数据库更新错误", "database update failed"

    code: str
    chinese: str
    english: str

    def __new__(cls, code: str, chinese: str, english: str) -> "Result":
        member = object.__new__(cls)
        member._value_ = code
        member.code = code
        member.chinese = chinese
        member.english = english
        return member


class Reason(StrEnum):
    """Why a call was refused, for the app's developer: the fixed vocabulary of `X-Refusal`."""

    MISSING = "is missing"
    TOO_SHORT = "is too short"
    TOO_LONG = "is too long"
    CONTROL_CHARACTER = "has a control character"
    NOT_A_PHONE = "is not a phone number"
    NOT_AN_AMOUNT = "is not one of the amounts"
    NOT_A_VALUE = "is not one of the values"
    NOT_A_NUMBER = "is not a whole number in range"
    NOT_A_FILE = "is not a file"
    NOT_A_PICTURE = "is not a picture that is taken here"
    NOT_A_MESSAGE_ID = "is not a message id"
    NOT_A_PLACE = "is not a place in this list"
    NOT_A_REQUEST_ID = "is not a request id"
    WEAK = "needs a letter and a digit"
    TOO_COMMON = "is too easily guessed"
    CONTRADICTS = "contradicts another parameter"
    UNKNOWN = "is unknown"
    TAKEN = "is registered already"
    UNVERIFIED = "is not verified"
    WRONG = "is wrong"
    EXPIRED = "has expired"
    ONESELF = "is oneself"
    NOT_A_FRIEND = "is not a friend"
    ALREADY_A_FRIEND = "is a friend already"
    TOO_MANY_FRIENDS = "would have too many friends"
    BLOCKED = "is blocked by oneself"
    TOO_MANY_BLOCKED = "would be one blocked too many"
    NOT_OPEN = "is not open"
    NOT_LIVE = "is not live"
    LIVE = "is live"
    NOT_ENOUGH_COINS = "is more than the coins there are"
    TOO_MANY_COINS = "would exceed the balance limit"
    USED_OTHERWISE = "was used for another content"
    NOT_TAKEN = "was not taken in time"
    SWITCHED_OFF = "is switched off"
    TOO_OFTEN = "was tried too often"
    NOT_KEPT = "could not be kept"
    OUTSIDE_FAILED = "could not be done outside"
    # The call as a whole, before any operation saw it.
    WRONG_PATH = "is not a path of this API"
    WRONG_METHOD = "is not the method of this path"
    NOT_HTTPS = "is not HTTPS"
    WRONG_TYPE = "is not a form in UTF-8"
    WRONG_FORM = "is not well formed"
    TOO_LARGE = "is too large"
    TOO_MANY_FIELDS = "has too many fields"
    TWICE = "is given twice"
    NO_SELECTOR = "selects no operation"
    TWO_SELECTORS = "selects two operations"
    QUERY_REFUSED = "may not be used"
    NOT_OURS = "is not from whom it must be"
    # The server's side.
    UNAVAILABLE = "cannot be served now"
    BROKEN = "met an error of ours"


@dataclass(frozen=True)
class Refusal:
    """What was wrong with a call: a parameter (or the part of the call) and the broken rule."""

    what: str
    reason: Reason

    def __str__(self) -> str:
        return f"{self.what} {self.reason}"


class Failure(Exception):
    """Ends an operation and undoes what it wrote; the reply bears `result`.

    `result` None stands for the refusal code of the operation that was called. `retry_after_s`
    says when the same call may succeed, where that is known.
    """

    def __init__(
        self,
        result: Result | None,
        what: str,
        reason: Reason,
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{result.name if result else 'refused'}: {what} {reason}")
        self.result = result
        self.refusal = Refusal(what, reason)
        self.retry_after_s = retry_after_s


class NotACall(Exception):
    """The request has not the shape of a call; nobody's operation saw it. Answered with 0003."""

    def __init__(self, status: int, what: str, reason: Reason) -> None:
        super().__init__(f"{status}: {what} {reason}")
        self.status = status
        self.refusal = Refusal(what, reason)


class Unavailable(Exception):
    """The call cannot be served now, and may be tried again after `retry_after_s`.

    `outcome_unknown`: it may have been done all the same. `repeat_as` is the request id by which it
    may be repeated and is done once.
    """

    def __init__(
        self,
        what: str,
        *,
        retry_after_s: int = 1,
        outcome_unknown: bool = False,
        repeat_as: str | None = None,
    ) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s
        self.outcome_unknown = outcome_unknown
        self.repeat_as = repeat_as


class CommitOutcomeUnknown(Unavailable):
    """The connection was lost during COMMIT: the transaction may be committed."""

    def __init__(self) -> None:
        super().__init__("the database", outcome_unknown=True)


@dataclass(frozen=True)
class Reply:
    """What the app reads: a result, a message, and (a successful search) one key more."""

    result: Result
    message: Any = None
    refusal: Refusal | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        return {"result": self.result.code, "message": self.message, **self.extra}


def ok(message: Any = None, **extra: Any) -> Reply:
    """A success; `message` is what the document promises for the operation."""
    return Reply(Result.OK, message, extra=extra)


def failed(result: Result, what: str, reason: Reason) -> Reply:
    """A refusal that keeps what the operation wrote, because returning commits."""
    return refused(result, Refusal(what, reason))


def refused(result: Result, refusal: Refusal) -> Reply:
    """The reply to a refused call. The coin calls alone say so in words (document, 金币系统)."""
    message = "update failed" if result is Result.NOT_UPDATED else None
    return Reply(result, message, refusal=refusal)
