"""Errors of the domain and of the infrastructure, without parameter names, result codes or HTTP.

`api/error_table.py` maps each domain error to what the client reads.
"""

from typing import ClassVar


class DomainError(Exception):
    """The request is refused.

    The transaction is rolled back, unless the error `keeps_changes`. `retry_after_s` is the number
    of seconds until a retry can succeed, if that is known. The first line of a class's docstring is
    its message.
    """

    keeps_changes: ClassVar[bool] = False
    retry_after_s: int | None = None

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or type(self).__name__).partition("\n")[0]


# Login tokens


class TokenMissing(DomainError):
    """The request has no login token."""


class TokenInvalid(DomainError):
    """The login token was not issued by this server, or was revoked."""


class TokenExpired(DomainError):
    """The login token has expired."""


# Accounts


class UnknownUser(DomainError):
    """No account has this phone number."""


class OwnAccount(DomainError):
    """The user named their own account where another one is needed."""


class AccountRemoved(DomainError):
    """The user's account was removed at the same moment."""


class AccountIsLive(DomainError):
    """The account cannot be removed while its room is open."""


class PhoneTaken(DomainError):
    """An account has this phone number."""


class PhoneNotVerified(DomainError):
    """The phone number was not verified in time."""


class WrongPassword(DomainError):
    """The password is wrong, or there were too many attempts."""


class PasswordTooCommon(DomainError):
    """The password is easy to guess."""


class PasswordChanged(DomainError):
    """The password was changed by another request at the same moment."""


# Verification codes


class WrongCode(DomainError):
    """The verification code is wrong; the attempt stays counted."""

    keeps_changes = True


class TooManyAttempts(DomainError):
    """There were too many wrong attempts at this verification code."""

    keeps_changes = True


class MessageNotSent(DomainError):
    """The SMS provider did not send the message."""


# Rate limits


class RateLimited(DomainError):
    """The client or user has reached a rate limit."""

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


# Pictures


class EmptyPicture(DomainError):
    """The upload has no content or no file name."""


class PictureTooLarge(DomainError):
    """The picture is larger than allowed."""


class InvalidPicture(DomainError):
    """The upload is not a picture of an accepted format."""


class PictureNotStored(DomainError):
    """The picture could not be stored."""


class UnknownPicture(DomainError):
    """The picture was not uploaded here, or is the avatar of another account."""


# Friends


class AlreadyFriends(DomainError):
    """The two users are friends."""


class NotFriends(DomainError):
    """The two users are not friends."""


class UserBlocked(DomainError):
    """The user has blocked the other one."""


class OwnFriendLimitReached(DomainError):
    """The user has as many friends as allowed."""


class FriendLimitReached(DomainError):
    """One of the two users has as many friends as allowed."""


class BlockLimitReached(DomainError):
    """The user has blocked as many users as allowed."""


class UnknownMessage(DomainError):
    """The user has no message with these ids."""


class MessageIdsMismatch(DomainError):
    """The two ids are not the two copies of one friend request."""


class MessageOfAnotherUser(DomainError):
    """The message is about another user than the one named."""


class RequestNotOpen(DomainError):
    """The friend request is not open."""


# Rooms


class RoomNotOpen(DomainError):
    """The user has no open room."""


class StreamNotCreated(DomainError):
    """The stream provider did not create the stream."""


# Coins


class InsufficientCoins(DomainError):
    """The sender has fewer coins than the gift costs."""


class BalanceLimitReached(DomainError):
    """The recipient's balance would exceed its limit."""


class RequestIdReused(DomainError):
    """The request id was used for a request of another content."""


class LedgerBusy(DomainError):
    """The ledger did not accept the transfer in time: no coins moved."""

    retry_after_s = 1


class RefillsDisabled(DomainError):
    """This server sells no coins."""


class PaymentNotPlaced(DomainError):
    """The payment provider did not accept the order; it stays open."""


class PaymentRejected(DomainError):
    """A payment is not credited."""


class InvalidNotification(PaymentRejected):
    """No payment provider sent this notification."""


class UnknownOrder(PaymentRejected):
    """There is no such payment order."""


class WrongAmount(PaymentRejected):
    """The paid amount differs from the ordered one."""


class OrderPaidTwice(PaymentRejected):
    """The order was paid by another payment."""


class PaymentOfAnotherOrder(PaymentRejected):
    """The payment paid another order."""


# Infrastructure


class Unavailable(Exception):
    """The request cannot be served now, and can be tried again after `retry_after_s`.

    If `outcome_unknown`, the request may have been executed. Retries with the request id
    `repeat_as` are executed once.
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
