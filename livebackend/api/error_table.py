"""Maps each domain error to its result code, parameter and error reason."""

from collections.abc import Mapping
from typing import NamedTuple

from livebackend.api.declaration import Operation
from livebackend.api.error_reasons import Reason, Refusal
from livebackend.api.result_codes import Result
from livebackend.core import errors
from livebackend.core.errors import DomainError


class ErrorResponse(NamedTuple):
    """The parts of the response to a domain error."""

    reason: Reason
    # Parameters that can cause the error. The response names the first one that the operation has.
    # If it has none of them, the first name is another part of the request.
    parameters: tuple[str, ...]
    # For operations that declare this code; others respond with their default error code.
    code: Result | None


def _response(reason: Reason, *parameters: str, code: Result | None = None) -> ErrorResponse:
    return ErrorResponse(reason, parameters, code)


_RESPONSES: Mapping[type[DomainError], ErrorResponse] = {
    errors.TokenMissing: _response(Reason.MISSING, "token", code=Result.TOKEN_INVALID),
    errors.TokenInvalid: _response(Reason.WRONG, "token", code=Result.TOKEN_INVALID),
    errors.TokenExpired: _response(Reason.EXPIRED, "token", code=Result.TOKEN_EXPIRED),
    errors.UnknownUser: _response(Reason.UNKNOWN, "userId", "object", code=Result.NO_SUCH_USER),
    errors.OwnAccount: _response(Reason.ONESELF, "userId", "object"),
    errors.AccountRemoved: _response(Reason.UNKNOWN, "token"),
    errors.AccountIsLive: _response(Reason.LIVE, "room"),
    errors.PhoneTaken: _response(Reason.TAKEN, "token", "userId", code=Result.PHONE_TAKEN),
    errors.PhoneNotVerified: _response(Reason.UNVERIFIED, "userId"),
    errors.WrongPassword: _response(
        Reason.WRONG, "oldPassword", "password", code=Result.WRONG_PASSWORD
    ),
    errors.PasswordTooCommon: _response(Reason.TOO_COMMON, "password"),
    errors.PasswordChanged: _response(Reason.CONTRADICTS, "password"),
    errors.WrongCode: _response(Reason.WRONG, "code", code=Result.WRONG_CODE),
    errors.TooManyAttempts: _response(Reason.WRONG, "code", code=Result.TOO_MANY_TRIES),
    errors.MessageNotSent: _response(Reason.OUTSIDE_FAILED, "message"),
    errors.RateLimited: _response(Reason.TOO_OFTEN, "call"),
    errors.EmptyPicture: _response(Reason.MISSING, "img"),
    errors.PictureTooLarge: _response(Reason.TOO_LARGE, "img"),
    errors.InvalidPicture: _response(Reason.NOT_A_PICTURE, "img"),
    errors.PictureNotStored: _response(Reason.NOT_KEPT, "img"),
    errors.UnknownPicture: _response(Reason.UNKNOWN, "headImage"),
    errors.AlreadyFriends: _response(
        Reason.ALREADY_A_FRIEND, "userId", code=Result.ALREADY_FRIENDS
    ),
    errors.NotFriends: _response(Reason.NOT_A_FRIEND, "userId"),
    errors.UserBlocked: _response(Reason.BLOCKED, "userId"),
    errors.OwnFriendLimitReached: _response(Reason.TOO_MANY_FRIENDS, "token"),
    errors.FriendLimitReached: _response(Reason.TOO_MANY_FRIENDS, "userId"),
    errors.BlockLimitReached: _response(Reason.TOO_MANY_BLOCKED, "userId"),
    errors.UnknownMessage: _response(Reason.UNKNOWN, "verifyId"),
    errors.MessageIdsMismatch: _response(Reason.CONTRADICTS, "verifyId"),
    errors.MessageOfAnotherUser: _response(Reason.CONTRADICTS, "userId"),
    errors.RequestNotOpen: _response(Reason.NOT_OPEN, "verifyId"),
    errors.RoomNotOpen: _response(Reason.NOT_LIVE, "room"),
    errors.StreamNotCreated: _response(Reason.OUTSIDE_FAILED, "stream"),
    errors.InsufficientCoins: _response(Reason.NOT_ENOUGH_COINS, "value"),
    errors.BalanceLimitReached: _response(Reason.TOO_MANY_COINS, "object", "money"),
    errors.RequestIdReused: _response(Reason.USED_OTHERWISE, "requestId"),
    errors.LedgerBusy: _response(Reason.NOT_TAKEN, "call"),
    errors.RefillsDisabled: _response(Reason.SWITCHED_OFF, "refill"),
    errors.PaymentNotPlaced: _response(Reason.OUTSIDE_FAILED, "refill"),
    errors.InvalidNotification: _response(Reason.WRONG, "notification"),
    errors.UnknownOrder: _response(Reason.UNKNOWN, "order"),
    errors.WrongAmount: _response(Reason.WRONG, "amount"),
    errors.OrderPaidTwice: _response(Reason.USED_OTHERWISE, "order"),
    errors.PaymentOfAnotherOrder: _response(Reason.USED_OTHERWISE, "payment"),
}


class Refused(NamedTuple):
    """The result code and the error detail of a response."""

    result: Result
    refusal: Refusal


def reason_of(error: DomainError) -> Reason:
    """Return the error reason of a domain error."""
    return _RESPONSES[type(error)].reason


def refusal_of(error: DomainError, operation: Operation | None = None) -> Refused:
    """Return the result code and error detail; without an operation, the code is 0003."""
    response = _RESPONSES[type(error)]
    if operation is None:
        return Refused(Result.NOT_A_CALL, Refusal(response.parameters[0], response.reason))
    names = operation.params.model_fields
    parameter = next(
        (name for name in response.parameters if name in names), response.parameters[0]
    )
    is_declared = response.code in operation.results
    result = response.code if response.code and is_declared else operation.refusal
    return Refused(result, Refusal(parameter, response.reason))
