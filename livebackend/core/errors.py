"""Domain and infrastructure errors, independent of HTTP and the API document.

`api/error_table.py` maps each domain error to the error response.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class DomainError(Exception):
    """The request is rejected.

    The transaction is rolled back unless `keeps_changes` is true. `retry_after_s` is the number of
    seconds until a retry can succeed, if that is known. `limits` has the values of the limits that
    the error reason names. The first line of a subclass's docstring is the error message.
    """

    keeps_changes: ClassVar[bool] = False
    retry_after_s: int | None = None
    limits: Mapping[str, int] = MappingProxyType({})

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or type(self).__name__).partition("\n")[0]


class LimitExceeded(DomainError):
    """The request exceeds a limit that the settings define."""

    def __init__(self, *, maximum: int) -> None:
        super().__init__()
        self.limits = {"max": maximum}


class TokenMissing(DomainError):
    """The request has no login token."""


class TokenInvalid(DomainError):
    """The login token was not issued by this server, or was revoked."""


class TokenExpired(DomainError):
    """The login token has expired."""


class UnknownUser(DomainError):
    """No account has this phone number."""


class OwnAccount(DomainError):
    """The request needs another user's account, but names the user's own account."""


class AccountRemoved(DomainError):
    """The user's account was removed by a concurrent request."""


class AccountIsLive(DomainError):
    """The account cannot be removed while its room is open."""


class PhoneTaken(DomainError):
    """The phone number is registered already."""


class PhoneNotVerified(DomainError):
    """The phone number has no valid verification."""


class WrongPassword(DomainError):
    """The password is wrong, or there were too many attempts."""


class PasswordTooCommon(DomainError):
    """The password is easy to guess."""


class PasswordChanged(DomainError):
    """The password was changed by a concurrent request."""


class WrongCode(DomainError):
    """The verification code is wrong, and the attempt is counted."""

    keeps_changes = True


class TooManyAttempts(DomainError):
    """There were too many wrong attempts at this verification code."""

    keeps_changes = True


class MessageNotSent(DomainError):
    """The SMS provider did not send the verification code."""


class RateLimited(DomainError):
    """The client or user has reached a rate limit."""

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class EmptyPicture(DomainError):
    """The upload has no content or no file name."""


class PictureTooLarge(LimitExceeded):
    """The picture is larger than allowed."""


class InvalidPicture(DomainError):
    """The upload is not a picture of an accepted format."""


class PictureNotStored(DomainError):
    """The picture could not be stored."""


class UnknownPicture(DomainError):
    """The picture was not uploaded to this server, or is the avatar of another account."""


class AlreadyFriends(DomainError):
    """The two users are friends already."""


class NotFriends(DomainError):
    """The two users are not friends."""


class UserBlocked(DomainError):
    """The user has blocked the other user."""


class OwnFriendLimitReached(LimitExceeded):
    """The user has as many friends as allowed."""


class FriendLimitReached(LimitExceeded):
    """The other user has as many friends as allowed."""


class BlockLimitReached(LimitExceeded):
    """The user has blocked as many users as allowed."""


class UnknownMessage(DomainError):
    """The user has no message with these ids."""


class MessageIdsMismatch(DomainError):
    """The two message ids do not belong to the same friend request."""


class MessageOfAnotherUser(DomainError):
    """The message is not from or to the user that the request names."""


class RequestNotOpen(DomainError):
    """The friend request is not open."""


class RoomNotOpen(DomainError):
    """The user has no open room."""


class StreamNotCreated(DomainError):
    """The stream provider did not create the stream."""


class InsufficientCoins(DomainError):
    """The sender has fewer coins than the gift costs."""


class BalanceLimitReached(DomainError):
    """The recipient's balance would exceed its limit."""


class RequestIdReused(DomainError):
    """The request id was used for a request with other content."""


class LedgerBusy(DomainError):
    """The ledger did not accept the transfer in time: no coins moved."""

    retry_after_s = 1


class RefillsDisabled(DomainError):
    """Refills are disabled in the settings."""


class PaymentNotPlaced(DomainError):
    """The payment provider did not accept the order; the order stays open."""


class PaymentRejected(DomainError):
    """The payment is rejected: no coins are credited."""


class InvalidNotification(PaymentRejected):
    """No payment gateway accepts the signature of this notification."""


class UnknownOrder(PaymentRejected):
    """No payment order has the order id of the payment."""


class WrongAmount(PaymentRejected):
    """The paid amount differs from the amount of the order."""


class OrderPaidTwice(PaymentRejected):
    """The order is already paid by another payment."""


class PaymentOfAnotherOrder(PaymentRejected):
    """The payment belongs to another order."""


class ServiceUnavailable(Exception):
    """The request cannot be served now; retry after `retry_after_s` seconds.

    If `outcome_unknown` is true, the request may have been executed. A retry with the request id
    `retry_request_id` does not execute it again.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: int = 1,
        outcome_unknown: bool = False,
        retry_request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.outcome_unknown = outcome_unknown
        self.retry_request_id = retry_request_id


class ClientDisconnected(ServiceUnavailable):
    """The client closed its connection before the request was executed."""

    def __init__(self) -> None:
        super().__init__("the client closed its connection before the request was executed")


class CommitOutcomeUnknown(ServiceUnavailable):
    """The connection was lost during COMMIT: the transaction may be committed."""

    def __init__(self) -> None:
        super().__init__(
            "database connection lost during COMMIT: the transaction may be committed",
            outcome_unknown=True,
        )
