"""Each domain error has a result code, a parameter and a reason for every operation."""

from collections.abc import Iterator

import pytest

from livebackend.api.declaration import Operation, operations
from livebackend.api.error_reasons import Reason
from livebackend.api.error_table import reason_of, refusal_of
from livebackend.api.result_codes import Result
from livebackend.core import errors
from livebackend.core.errors import DomainError, RateLimited
from tests.support.api import App


def concrete(error: type[DomainError]) -> Iterator[type[DomainError]]:
    """The classes that are raised: those without subclasses."""
    subclasses = error.__subclasses__()
    if not subclasses and error.__module__ == errors.__name__:
        yield error
    for subclass in subclasses:
        yield from concrete(subclass)


ERRORS = sorted(concrete(DomainError), key=lambda error: error.__name__)


def raised(error: type[DomainError]) -> DomainError:
    return RateLimited(retry_after_s=1) if error is RateLimited else error()


@pytest.fixture
def declared(app: App) -> dict[str, Operation]:
    return {operation.name: operation for operation in operations(app.registry)}


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_in_the_table(error: type[DomainError]) -> None:
    assert isinstance(reason_of(raised(error)), Reason)


@pytest.mark.parametrize("error", ERRORS)
def test_an_operation_answers_with_a_code_that_it_declares(
    error: type[DomainError], declared: dict[str, Operation]
) -> None:
    for operation in declared.values():
        assert refusal_of(raised(error), operation).result in operation.results - {Result.OK}


@pytest.mark.parametrize(
    ("error", "operation", "code", "words"),
    [
        (errors.UnknownUser, "search", "0007", "userId is unknown"),
        (errors.UnknownUser, "unfriend", "0006", "userId is unknown"),
        (errors.UnknownUser, "send_gift", "0013", "object is unknown"),
        (errors.PhoneTaken, "send_code", "0001", "token is registered already"),
        (errors.PhoneTaken, "register", "0006", "userId is registered already"),
        (errors.WrongPassword, "log_in", "0008", "password is wrong"),
        (errors.WrongPassword, "change_password", "0008", "oldPassword is wrong"),
        (errors.BalanceLimitReached, "refill", "0013", "money would exceed the balance limit"),
        (errors.RoomNotOpen, "leave", "0009", "room is not live"),
    ],
)
def test_code_and_parameter_depend_on_the_operation(
    error: type[DomainError],
    operation: str,
    code: str,
    words: str,
    declared: dict[str, Operation],
) -> None:
    refused = refusal_of(error(), declared[operation])
    assert (refused.result.code, str(refused.refusal)) == (code, words)


def test_without_an_operation_it_is_not_a_request_of_the_api() -> None:
    refused = refusal_of(errors.WrongAmount())
    assert (refused.result, str(refused.refusal)) == (Result.NOT_A_CALL, "amount is wrong")
