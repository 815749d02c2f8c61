"""What a client reads for each error of the domain: result code, parameter, reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from livebackend.api.declaration import Operation
from livebackend.api.error_reasons import Reason, Refusal
from livebackend.api.result_codes import Result
from livebackend.core import errors
from livebackend.core.errors import DomainError


@dataclass(frozen=True, init=False)
class Mapped:
    """What a client reads for a domain error."""

    reason: Reason
    # Names of the parameter that is wrong: the first one that the operation has. The first of all,
    # if it has none of them: then it is no parameter, but a part of the request.
    parameters: tuple[str, ...]
    # The result code, for operations that declare it; others have their default error code.
    code: Result | None

    def __init__(self, reason: Reason, *parameters: str, code: Result | None = None) -> None:
        object.__setattr__(self, "reason", reason)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "code", code)


_MAPPED: Mapping[type[DomainError], Mapped] = {
    errors.TokenMissing: Mapped(Reason.MISSING, "token", code=Result.TOKEN_INVALID),
    errors.TokenInvalid: Mapped(Reason.WRONG, "token", code=Result.TOKEN_INVALID),
    errors.TokenExpired: Mapped(Reason.EXPIRED, "token", code=Result.TOKEN_EXPIRED),
    errors.UnknownUser: Mapped(Reason.UNKNOWN, "userId", "object", code=Result.NO_SUCH_USER),
    errors.OwnAccount: Mapped(Reason.ONESELF, "userId", "object"),
    errors.AccountRemoved: Mapped(Reason.UNKNOWN, "token"),
    errors.AccountIsLive: Mapped(Reason.LIVE, "room"),
    errors.PhoneTaken: Mapped(Reason.TAKEN, "token", "userId", code=Result.PHONE_TAKEN),
    errors.PhoneNotVerified: Mapped(Reason.UNVERIFIED, "userId"),
    errors.WrongPassword: Mapped(
        Reason.WRONG, "oldPassword", "password", code=Result.WRONG_PASSWORD
    ),
    errors.PasswordTooCommon: Mapped(Reason.TOO_COMMON, "password"),
    errors.PasswordChanged: Mapped(Reason.CONTRADICTS, "password"),
    errors.WrongCode: Mapped(Reason.WRONG, "code", code=Result.WRONG_CODE),
    errors.TooManyAttempts: Mapped(Reason.WRONG, "code", code=Result.TOO_MANY_TRIES),
    errors.MessageNotSent: Mapped(Reason.OUTSIDE_FAILED, "message"),
    errors.RateLimited: Mapped(Reason.TOO_OFTEN, "call"),
    errors.EmptyPicture: Mapped(Reason.MISSING, "img"),
    errors.PictureTooLarge: Mapped(Reason.TOO_LARGE, "img"),
    errors.InvalidPicture: Mapped(Reason.NOT_A_PICTURE, "img"),
    errors.PictureNotStored: Mapped(Reason.NOT_KEPT, "img"),
    errors.UnknownPicture: Mapped(Reason.UNKNOWN, "headImage"),
    errors.AlreadyFriends: Mapped(Reason.ALREADY_A_FRIEND, "userId", code=Result.ALREADY_FRIENDS),
    errors.NotFriends: Mapped(Reason.NOT_A_FRIEND, "userId"),
    errors.UserBlocked: Mapped(Reason.BLOCKED, "userId"),
    errors.OwnFriendLimitReached: Mapped(Reason.TOO_MANY_FRIENDS, "token"),
    errors.FriendLimitReached: Mapped(Reason.TOO_MANY_FRIENDS, "userId"),
    errors.BlockLimitReached: Mapped(Reason.TOO_MANY_BLOCKED, "userId"),
    errors.UnknownMessage: Mapped(Reason.UNKNOWN, "verifyId"),
    errors.MessageIdsMismatch: Mapped(Reason.CONTRADICTS, "verifyId"),
    errors.MessageOfAnotherUser: Mapped(Reason.CONTRADICTS, "userId"),
    errors.RequestNotOpen: Mapped(Reason.NOT_OPEN, "verifyId"),
    errors.RoomNotOpen: Mapped(Reason.NOT_LIVE, "room"),
    errors.StreamNotCreated: Mapped(Reason.OUTSIDE_FAILED, "stream"),
    errors.InsufficientCoins: Mapped(Reason.NOT_ENOUGH_COINS, "value"),
    errors.BalanceLimitReached: Mapped(Reason.TOO_MANY_COINS, "object", "money"),
    errors.RequestIdReused: Mapped(Reason.USED_OTHERWISE, "requestId"),
    errors.LedgerBusy: Mapped(Reason.NOT_TAKEN, "call"),
    errors.RefillsDisabled: Mapped(Reason.SWITCHED_OFF, "refill"),
    errors.PaymentNotPlaced: Mapped(Reason.OUTSIDE_FAILED, "refill"),
    errors.InvalidNotification: Mapped(Reason.WRONG, "notification"),
    errors.UnknownOrder: Mapped(Reason.UNKNOWN, "order"),
    errors.WrongAmount: Mapped(Reason.WRONG, "amount"),
    errors.OrderPaidTwice: Mapped(Reason.USED_OTHERWISE, "order"),
    errors.PaymentOfAnotherOrder: Mapped(Reason.USED_OTHERWISE, "payment"),
}


class Refused(NamedTuple):
    """A refusal as the client reads it."""

    result: Result
    refusal: Refusal


def reason_of(error: DomainError) -> Reason:
    """Return the reason that a client reads."""
    return _MAPPED[type(error)].reason


def refusal_of(error: DomainError, operation: Operation | None = None) -> Refused:
    """Return what a client of the operation reads; without an operation, result 0003."""
    mapped = _MAPPED[type(error)]
    if operation is None:
        return Refused(Result.NOT_A_CALL, Refusal(mapped.parameters[0], mapped.reason))
    names = operation.params.model_fields
    parameter = next((name for name in mapped.parameters if name in names), mapped.parameters[0])
    is_declared = mapped.code in operation.results
    result = mapped.code if mapped.code and is_declared else operation.refusal
    return Refused(result, Refusal(parameter, mapped.reason))
