"""Maps each domain error to its result code, parameter and error reason."""

from collections.abc import Mapping
from typing import NamedTuple

from livebackend.api.declaration import Operation
from livebackend.api.error_reasons import ErrorDetail, ErrorReason
from livebackend.api.result_codes import ResultCode
from livebackend.core import errors
from livebackend.core.errors import DomainError


class ErrorResponse(NamedTuple):
    """The parts of the response to a domain error."""

    reason: ErrorReason
    # Parameters that can cause the error. The response names the first one that the operation has.
    # If it has none of them, the first name is another part of the request.
    parameters: tuple[str, ...]
    # For operations that declare this code; others respond with their default error code.
    code: ResultCode | None


def _response(
    reason: ErrorReason, *parameters: str, code: ResultCode | None = None
) -> ErrorResponse:
    return ErrorResponse(reason, parameters, code)


_RESPONSES: Mapping[type[DomainError], ErrorResponse] = {
    errors.TokenMissing: _response(ErrorReason.MISSING, "token", code=ResultCode.TOKEN_INVALID),
    errors.TokenInvalid: _response(ErrorReason.WRONG, "token", code=ResultCode.TOKEN_INVALID),
    errors.TokenExpired: _response(ErrorReason.EXPIRED, "token", code=ResultCode.TOKEN_EXPIRED),
    errors.UnknownUser: _response(
        ErrorReason.UNKNOWN, "userId", "object", code=ResultCode.UNKNOWN_USER
    ),
    errors.OwnAccount: _response(ErrorReason.ONESELF, "userId", "object"),
    errors.AccountRemoved: _response(ErrorReason.UNKNOWN, "token"),
    errors.AccountIsLive: _response(ErrorReason.LIVE, "room"),
    errors.PhoneTaken: _response(ErrorReason.TAKEN, "token", "userId", code=ResultCode.PHONE_TAKEN),
    errors.PhoneNotVerified: _response(ErrorReason.UNVERIFIED, "userId"),
    errors.WrongPassword: _response(
        ErrorReason.WRONG, "oldPassword", "password", code=ResultCode.WRONG_PASSWORD
    ),
    errors.PasswordTooCommon: _response(ErrorReason.TOO_COMMON, "password"),
    errors.PasswordChanged: _response(ErrorReason.CONTRADICTS, "password"),
    errors.WrongCode: _response(ErrorReason.WRONG, "code", code=ResultCode.WRONG_CODE),
    errors.TooManyAttempts: _response(ErrorReason.WRONG, "code", code=ResultCode.TOO_MANY_ATTEMPTS),
    errors.MessageNotSent: _response(ErrorReason.OUTSIDE_FAILED, "message"),
    errors.RateLimited: _response(ErrorReason.TOO_OFTEN, "call"),
    errors.EmptyPicture: _response(ErrorReason.MISSING, "img"),
    errors.PictureTooLarge: _response(ErrorReason.TOO_LARGE, "img"),
    errors.InvalidPicture: _response(ErrorReason.NOT_A_PICTURE, "img"),
    errors.PictureNotStored: _response(ErrorReason.NOT_KEPT, "img"),
    errors.UnknownPicture: _response(ErrorReason.UNKNOWN, "headImage"),
    errors.AlreadyFriends: _response(
        ErrorReason.ALREADY_A_FRIEND, "userId", code=ResultCode.ALREADY_FRIENDS
    ),
    errors.NotFriends: _response(ErrorReason.NOT_A_FRIEND, "userId"),
    errors.UserBlocked: _response(ErrorReason.BLOCKED, "userId"),
    errors.OwnFriendLimitReached: _response(ErrorReason.TOO_MANY_FRIENDS, "token"),
    errors.FriendLimitReached: _response(ErrorReason.TOO_MANY_FRIENDS, "userId"),
    errors.BlockLimitReached: _response(ErrorReason.TOO_MANY_BLOCKED, "userId"),
    errors.UnknownMessage: _response(ErrorReason.UNKNOWN, "verifyId"),
    errors.MessageIdsMismatch: _response(ErrorReason.CONTRADICTS, "verifyId"),
    errors.MessageOfAnotherUser: _response(ErrorReason.CONTRADICTS, "userId"),
    errors.RequestNotOpen: _response(ErrorReason.NOT_OPEN, "verifyId"),
    errors.RoomNotOpen: _response(ErrorReason.NOT_LIVE, "room"),
    errors.StreamNotCreated: _response(ErrorReason.OUTSIDE_FAILED, "stream"),
    errors.InsufficientCoins: _response(ErrorReason.NOT_ENOUGH_COINS, "value"),
    errors.BalanceLimitReached: _response(ErrorReason.TOO_MANY_COINS, "object", "money"),
    errors.RequestIdReused: _response(ErrorReason.USED_OTHERWISE, "requestId"),
    errors.LedgerBusy: _response(ErrorReason.NOT_TAKEN, "call"),
    errors.RefillsDisabled: _response(ErrorReason.SWITCHED_OFF, "refill"),
    errors.PaymentNotPlaced: _response(ErrorReason.OUTSIDE_FAILED, "refill"),
    errors.InvalidNotification: _response(ErrorReason.WRONG, "notification"),
    errors.UnknownOrder: _response(ErrorReason.UNKNOWN, "order"),
    errors.WrongAmount: _response(ErrorReason.WRONG, "amount"),
    errors.OrderPaidTwice: _response(ErrorReason.USED_OTHERWISE, "order"),
    errors.PaymentOfAnotherOrder: _response(ErrorReason.USED_OTHERWISE, "payment"),
}


class ErrorOutcome(NamedTuple):
    """The result code and the error detail of a response."""

    result_code: ResultCode
    detail: ErrorDetail


def reason_of(error: DomainError) -> ErrorReason:
    """Return the error reason of a domain error."""
    return _RESPONSES[type(error)].reason


def error_outcome(error: DomainError, operation: Operation | None = None) -> ErrorOutcome:
    """Return the result code and error detail; without an operation, the code is 0003."""
    response = _RESPONSES[type(error)]
    if operation is None:
        return ErrorOutcome(
            ResultCode.INVALID_REQUEST, ErrorDetail(response.parameters[0], response.reason)
        )
    names = operation.parameters.model_fields
    parameter = next(
        (name for name in response.parameters if name in names), response.parameters[0]
    )
    is_declared = response.code in operation.result_codes
    result = response.code if response.code and is_declared else operation.default_error
    return ErrorOutcome(result, ErrorDetail(parameter, response.reason))
