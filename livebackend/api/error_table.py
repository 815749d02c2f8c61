"""Maps each domain error to its result code, parameter and error reason."""

from collections.abc import Mapping
from typing import NamedTuple

from livebackend.api.error_reasons import ErrorDetail, ErrorReason
from livebackend.api.operation_declaration import Operation
from livebackend.api.result_codes import ResultCode
from livebackend.core import errors
from livebackend.core.errors import DomainError


class ErrorResponse(NamedTuple):
    """The parts of the response to a domain error."""

    reason: ErrorReason
    # Names of parameters or other parts of the request that can cause the error. The response names
    # the first of them that is a parameter of the operation; if none is, the first of all.
    parameters: tuple[str, ...]
    # The result code, for operations that declare it. Other operations respond with their default
    # error code.
    code: ResultCode | None


def _response(
    reason: ErrorReason, *parameters: str, code: ResultCode | None = None
) -> ErrorResponse:
    return ErrorResponse(reason, parameters, code)


_RESPONSES: Mapping[type[DomainError], ErrorResponse] = {
    errors.TokenMissing: _response(ErrorReason.MISSING, "token", code=ResultCode.TOKEN_INVALID),
    errors.TokenInvalid: _response(
        ErrorReason.INVALID_TOKEN, "token", code=ResultCode.TOKEN_INVALID
    ),
    errors.TokenExpired: _response(
        ErrorReason.TOKEN_EXPIRED, "token", code=ResultCode.TOKEN_EXPIRED
    ),
    errors.UnknownUser: _response(
        ErrorReason.UNKNOWN_USER, "userId", "object", code=ResultCode.UNKNOWN_USER
    ),
    errors.OwnAccount: _response(ErrorReason.OWN_ACCOUNT, "userId", "object"),
    errors.AccountRemoved: _response(ErrorReason.ACCOUNT_REMOVED, "token"),
    errors.AccountIsLive: _response(ErrorReason.ROOM_OPEN, "room"),
    errors.PhoneTaken: _response(
        ErrorReason.ALREADY_REGISTERED, "token", "userId", code=ResultCode.PHONE_TAKEN
    ),
    errors.PhoneNotVerified: _response(ErrorReason.PHONE_NOT_VERIFIED, "userId"),
    errors.WrongPassword: _response(
        ErrorReason.WRONG_PASSWORD, "oldPassword", "password", code=ResultCode.WRONG_PASSWORD
    ),
    errors.PasswordTooCommon: _response(ErrorReason.COMMON_PASSWORD, "password"),
    errors.PasswordChanged: _response(ErrorReason.PASSWORD_CHANGED, "password"),
    errors.WrongCode: _response(ErrorReason.WRONG_CODE, "code", code=ResultCode.WRONG_CODE),
    errors.TooManyAttempts: _response(
        ErrorReason.TOO_MANY_ATTEMPTS, "code", code=ResultCode.TOO_MANY_ATTEMPTS
    ),
    errors.MessageNotSent: _response(ErrorReason.UPSTREAM_FAILED, "message"),
    errors.RateLimited: _response(ErrorReason.RATE_LIMITED, "request"),
    errors.EmptyPicture: _response(ErrorReason.MISSING, "img"),
    errors.PictureTooLarge: _response(ErrorReason.TOO_LARGE, "img"),
    errors.InvalidPicture: _response(ErrorReason.NOT_AN_IMAGE, "img"),
    errors.PictureNotStored: _response(ErrorReason.PICTURE_NOT_STORED, "img"),
    errors.UnknownPicture: _response(ErrorReason.UNKNOWN_PICTURE, "headImage"),
    errors.AlreadyFriends: _response(
        ErrorReason.ALREADY_FRIENDS, "userId", code=ResultCode.ALREADY_FRIENDS
    ),
    errors.NotFriends: _response(ErrorReason.NOT_FRIENDS, "userId"),
    errors.UserBlocked: _response(ErrorReason.USER_BLOCKED, "userId"),
    errors.OwnFriendLimitReached: _response(ErrorReason.TOO_MANY_FRIENDS, "token"),
    errors.FriendLimitReached: _response(ErrorReason.TOO_MANY_FRIENDS, "userId"),
    errors.BlockLimitReached: _response(ErrorReason.TOO_MANY_BLOCKED_USERS, "userId"),
    errors.UnknownMessage: _response(ErrorReason.UNKNOWN_MESSAGE, "verifyId"),
    errors.MessageIdsMismatch: _response(ErrorReason.MESSAGE_IDS_MISMATCH, "verifyId"),
    errors.MessageOfAnotherUser: _response(ErrorReason.MESSAGE_OF_ANOTHER_USER, "userId"),
    errors.RequestNotOpen: _response(ErrorReason.REQUEST_NOT_OPEN, "verifyId"),
    errors.RoomNotOpen: _response(ErrorReason.ROOM_NOT_OPEN, "room"),
    errors.StreamNotCreated: _response(ErrorReason.UPSTREAM_FAILED, "stream"),
    errors.InsufficientCoins: _response(ErrorReason.INSUFFICIENT_COINS, "value"),
    errors.BalanceLimitReached: _response(ErrorReason.BALANCE_LIMIT, "object", "money"),
    errors.RequestIdReused: _response(ErrorReason.REQUEST_ID_REUSED, "requestId"),
    errors.LedgerBusy: _response(ErrorReason.LEDGER_BUSY, "request"),
    errors.RefillsDisabled: _response(ErrorReason.REFILLS_DISABLED, "refill"),
    errors.PaymentNotPlaced: _response(ErrorReason.UPSTREAM_FAILED, "refill"),
    errors.InvalidNotification: _response(ErrorReason.INVALID_NOTIFICATION, "notification"),
    errors.UnknownOrder: _response(ErrorReason.UNKNOWN_ORDER, "order"),
    errors.WrongAmount: _response(ErrorReason.WRONG_AMOUNT, "amount"),
    errors.OrderPaidTwice: _response(ErrorReason.ORDER_ALREADY_PAID, "order"),
    errors.PaymentOfAnotherOrder: _response(ErrorReason.PAYMENT_OF_ANOTHER_ORDER, "payment"),
}


class ErrorOutcome(NamedTuple):
    """The result code and the error detail of a response."""

    result_code: ResultCode
    detail: ErrorDetail


def reason_of(error: type[DomainError]) -> ErrorReason:
    """Return the error reason of a domain error."""
    return _RESPONSES[error].reason


def result_code_of(error: type[DomainError], operation: Operation) -> ResultCode:
    """Return the result code with which an operation responds to a domain error."""
    code = _RESPONSES[error].code
    return code if code and code in operation.result_codes else operation.default_error


def error_outcome(error: DomainError, operation: Operation | None = None) -> ErrorOutcome:
    """Return the result code and error detail of a domain error.

    Without an operation, the result code is 0003.
    """
    response = _RESPONSES[type(error)]
    operation_parameters = operation.parameters.model_fields if operation else {}
    parameter = next(
        (name for name in response.parameters if name in operation_parameters),
        response.parameters[0],
    )
    detail = ErrorDetail(parameter, response.reason, error.limits)
    if operation is None:
        return ErrorOutcome(ResultCode.INVALID_REQUEST, detail)
    return ErrorOutcome(result_code_of(type(error), operation), detail)
