"""The reasons of refused requests, for developers."""

from dataclasses import dataclass
from enum import StrEnum


class ErrorReason(StrEnum):
    """Why a call was refused, for the app's developer: the fixed vocabulary of `X-Error`."""

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
class ErrorDetail:
    """What was wrong with a request: a parameter, or another part of it, and the reason."""

    parameter: str
    reason: ErrorReason

    def __str__(self) -> str:
        return f"{self.parameter} {self.reason}"
