"""Mapping of domain errors to result codes, parameters and error reasons."""

from collections.abc import Iterator

import pytest

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.error_table import error_outcome, reason_of
from livebackend.api.operation_declaration import Operation, operations
from livebackend.api.result_codes import ResultCode
from livebackend.core import errors
from livebackend.core.errors import DomainError, LimitExceeded, RateLimited
from tests.support.api import App


def leaf_classes(error_class: type[DomainError]) -> Iterator[type[DomainError]]:
    """Yield the error classes that have no subclasses; the server raises only these."""
    subclasses = error_class.__subclasses__()
    if not subclasses and error_class.__module__ == errors.__name__:
        yield error_class
    for subclass in subclasses:
        yield from leaf_classes(subclass)


ERRORS = sorted(leaf_classes(DomainError), key=lambda error: error.__name__)


def new_error(error: type[DomainError]) -> DomainError:
    if error is RateLimited:
        return RateLimited(retry_after_s=1)
    return error(maximum=7) if issubclass(error, LimitExceeded) else error()


@pytest.fixture
def declared_operations(app: App) -> dict[str, Operation]:
    return {operation.name: operation for operation in operations(app.registry)}


@pytest.mark.parametrize("error", ERRORS)
def test_every_domain_error_has_an_error_reason(error: type[DomainError]) -> None:
    assert isinstance(reason_of(error), ErrorReason)


@pytest.mark.parametrize("error", ERRORS)
def test_domain_error_has_a_declared_result_code_in_every_operation(
    error: type[DomainError], declared_operations: dict[str, Operation]
) -> None:
    for operation in declared_operations.values():
        assert error_outcome(new_error(error), operation).result_code in operation.result_codes - {
            ResultCode.OK
        }


@pytest.mark.parametrize(
    ("error", "operation", "code", "x_error"),
    [
        (errors.UnknownUser, "search", "0007", "userId; reason=unknown_user"),
        (errors.UnknownUser, "unfriend", "0006", "userId; reason=unknown_user"),
        (errors.UnknownUser, "send_gift", "0013", "object; reason=unknown_user"),
        (errors.PhoneTaken, "send_code", "0001", "token; reason=already_registered"),
        (errors.PhoneTaken, "register", "0006", "userId; reason=already_registered"),
        (errors.WrongPassword, "log_in", "0008", "password; reason=wrong_password"),
        (errors.WrongPassword, "change_password", "0008", "oldPassword; reason=wrong_password"),
        (errors.BalanceLimitReached, "refill", "0013", "money; reason=balance_limit"),
        (errors.RoomNotOpen, "leave", "0009", "room; reason=room_not_open"),
    ],
)
def test_result_code_and_parameter_depend_on_the_operation(
    error: type[DomainError],
    operation: str,
    code: str,
    x_error: str,
    declared_operations: dict[str, Operation],
) -> None:
    outcome = error_outcome(error(), declared_operations[operation])
    assert (outcome.result_code.code, outcome.detail.header) == (code, x_error)


def test_domain_error_outside_an_operation_has_result_0003() -> None:
    outcome = error_outcome(errors.WrongAmount())
    assert (outcome.result_code, outcome.detail.header) == (
        ResultCode.INVALID_REQUEST,
        "amount; reason=wrong_amount",
    )
