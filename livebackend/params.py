"""The kinds of parameters that operations declare, and how a form is read into them."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from livebackend.form import Form
from livebackend.results import Failure, Reason, Result

# Line and paragraph separators, and what turns the direction of the text around it: a nickname
# with these would rearrange the screen of whoever reads it.
_UNFIT_FOR_DISPLAY = re.compile("[\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Refuses:
    """Marks a parameter whose faults have a code of their own instead of the refusal code."""

    result: Result


class Params(BaseModel):
    """An operation's parameters. Unknown ones are ignored; an empty optional one is absent."""

    model_config = ConfigDict(extra="ignore", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def read(cls, form: Form, *, phones: str) -> Self:
        """The parameters in `form`; `phones` is the regular expression of a phone number.

        Fails with: the first faulty parameter's own code, else the operation's refusal code.
        """
        given = {name: form[name] for name in cls.model_fields if form.get(name, "") != ""}
        try:
            return cls.model_validate(given, context={"phones": phones})
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(first["loc"][0])
        raise Failure(cls._result_of(name), name, _REASONS.get(first["type"], Reason.NOT_A_VALUE))

    @classmethod
    def _result_of(cls, name: str) -> Result | None:
        for mark in cls.model_fields[name].metadata:
            if isinstance(mark, Refuses):
                return mark.result
        return None


class LoggedIn(Params):
    """The parameters of a call by somebody who is logged in; the token is judged before them."""

    token: str


def broken(reason: Reason) -> PydanticCustomError:
    """What a check raises; it comes out as the call's refusal."""
    return PydanticCustomError(reason.name, "{reason}", {"reason": reason.value})


_REASONS = {reason.name: reason for reason in Reason} | {
    "missing": Reason.MISSING,
    "is_instance_of": Reason.NOT_A_FILE,
}


def pattern(expression: str, reason: Reason) -> AfterValidator:
    """Text that is wholly `expression`."""
    compiled = re.compile(expression)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise broken(reason)
        return value

    return AfterValidator(check)


def length(shortest: int, longest: int) -> AfterValidator:
    """Text of so many characters."""

    def check(value: str) -> str:
        if len(value) < shortest:
            raise broken(Reason.TOO_SHORT)
        if len(value) > longest:
            raise broken(Reason.TOO_LONG)
        return value

    return AfterValidator(check)


def parsed(parse: Callable[[str], int], reason: Reason) -> BeforeValidator:
    """Text that `parse` makes a number of; it raises ValueError for what it does not know."""

    def check(value: object) -> int:
        try:
            return parse(str(value))
        except ValueError:
            raise broken(reason) from None

    return BeforeValidator(check)


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

Phone = Annotated[str, AfterValidator(_phone)]
# Anything that may be a password: whether it is the right one is asked elsewhere.
TypedPassword = Annotated[str, length(1, 128), NoControl]
Password = Annotated[str, length(8, 128), NoControl, AfterValidator(_letter_and_digit)]
Gender = Annotated[str, pattern("[01]", Reason.NOT_A_VALUE)]
Nickname = Annotated[str, length(1, 32), NoControl, Displayed, AfterValidator(_visible)]
HeadImage = Annotated[str, length(1, 255), NoControl]
MessageName = Annotated[str, pattern("[0-9]{11}[,，][0-9]{1,18}", Reason.NOT_A_MESSAGE_ID)]
Title = Annotated[str, length(1, 100), NoControl, Displayed]
Description = Annotated[str, length(1, 200), NoControl, Displayed]
RequestId = Annotated[str, pattern("[A-Za-z0-9._-]{1,64}", Reason.NOT_A_REQUEST_ID)]
Coins = Annotated[int, parsed(partial(whole_number, largest=100_000), Reason.NOT_A_NUMBER)]
PageLength = Annotated[int, parsed(_page_length, Reason.NOT_A_NUMBER)]
Cursor = Annotated[str, pattern("[0-9]{1,18}-[0-9]{1,18}", Reason.NOT_A_PLACE)]
Money = Annotated[int, parsed(_money, Reason.NOT_AN_AMOUNT)]
