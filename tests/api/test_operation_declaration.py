"""Tests of the declarations of operations, both documented ones and extensions."""

import pytest

from livebackend.api.operation_declaration import Operation, operations
from livebackend.api.result_codes import ResultCode
from livebackend.config.settings import Settings
from tests.support.api import App

# By operation: routes, the parameter that selects the operation, and result codes. The values are
# those of the mobile app's API document. This server adds 0007 to `add`, and 0011 and 0012 to all
# operations with a login token.
DOCUMENTED_OPERATIONS = {
    "send_code": (("register",), None, "0000 0001 0002"),
    "verify_code": (("register",), None, "0000 0004 0005"),
    "register": (("register",), "register", "0000 0006"),
    "upload": (("upload",), None, "0000 0006"),
    "log_in": (("log",), None, "0000 0007 0008"),
    "live": (("room",), "live", "0000 0009 0011 0012"),
    "leave": (("room",), "leave", "0000 0009 0011 0012"),
    "friendlist": (("list",), "friendlist", "0000 0006 0011 0012"),
    "messagelist": (("list",), "messagelist", "0000 0006 0011 0012"),
    "search": (("friend",), "search", "0000 0006 0007 0011 0012"),
    "add": (("friend",), "add", "0000 0006 0007 0010 0011 0012"),
    "deal_message": (("friend",), "dealMessage", "0000 0006 0011 0012"),
    "unfriend": (("friend",), "delete", "0000 0006 0011 0012"),
    "refill": (("golden", "friend"), "refill", "0000 0011 0012 0013"),
    "send_gift": (("golden", "friend"), "send_gift", "0000 0011 0012 0013"),
}

EXTENSION_OPERATIONS = {
    "log_out": (("log",), "logout", "0000 0006 0011 0012"),
    "change_password": (("log",), "change", "0000 0006 0008 0011 0012"),
    "forgot_password": (("log",), "forgot", "0000 0002"),
    "reset_password": (("log",), "reset", "0000 0004 0005 0006"),
    "change_profile": (("register",), "profile", "0000 0006 0011 0012"),
    "remove": (("register",), "remove", "0000 0006 0008 0011 0012"),
    "balance": (("golden", "friend"), "balance", "0000 0011 0012 0013"),
    "records": (("golden", "friend"), "records", "0000 0011 0012 0013"),
    "ranking": (("golden", "friend"), "ranking", "0000 0011 0012 0013"),
    "block": (("friend",), "block", "0000 0006 0007 0011 0012"),
    "livelist": (("list",), "livelist", "0000 0006 0011 0012"),
    "heartbeat": (("room",), "heartbeat", "0000 0009 0011 0012"),
    "unblock": (("friend",), "unblock", "0000 0006 0007 0011 0012"),
    "event_ticket": (("events",), "ticket", "0000 0009 0011 0012"),
}


@pytest.fixture(scope="module")
def declared_operations(app: App) -> dict[str, Operation]:
    return {operation.name: operation for operation in operations(app.registry)}


def test_operations_match_the_api_document_and_the_extensions(
    declared_operations: dict[str, Operation],
) -> None:
    declared_values = {
        name: (
            operation.routes,
            operation.selector,
            " ".join(sorted(result.code for result in operation.result_codes)),
        )
        for name, operation in declared_operations.items()
    }
    assert declared_values == DOCUMENTED_OPERATIONS | EXTENSION_OPERATIONS
    extension_names = {
        name for name, operation in declared_operations.items() if not operation.documented
    }
    assert extension_names == set(EXTENSION_OPERATIONS)


def test_titles_and_descriptions_are_in_english_and_chinese(
    declared_operations: dict[str, Operation],
) -> None:
    for operation in declared_operations.values():
        for english, chinese in (operation.title, operation.description):
            assert english
            assert english.isascii()
            assert not chinese.isascii()


def test_operation_verify_code_is_selected_by_its_parameters(
    declared_operations: dict[str, Operation],
) -> None:
    assert declared_operations["verify_code"].presence_selectors == ("code_v", "code")


def test_operations_with_slow_work_outside_the_database_hold_no_transaction(
    declared_operations: dict[str, Operation],
) -> None:
    operations_without_transaction = {
        name for name, operation in declared_operations.items() if not operation.transaction
    }
    assert operations_without_transaction == {
        *("send_code", "register", "upload", "log_in", "live", "leave", "refill", "send_gift"),
        *("change_password", "forgot_password", "reset_password", "change_profile", "remove"),
        "heartbeat",
    }


def test_expected_operations_are_declared_read_only_or_authenticated_in_the_query(
    declared_operations: dict[str, Operation],
) -> None:
    read_only_operations = {
        name for name, operation in declared_operations.items() if operation.read_only
    }
    assert read_only_operations == {
        *("friendlist", "messagelist", "livelist", "search"),
    }
    operations_authenticated_in_query = {
        name for name, operation in declared_operations.items() if operation.authenticates_in_query
    }
    assert operations_authenticated_in_query == {"friendlist", "messagelist", "send_gift"}


def test_every_rate_limit_is_a_setting(declared_operations: dict[str, Operation]) -> None:
    rate_limit_names = {
        limit for operation in declared_operations.values() for limit in operation.all_limits
    }
    assert {f"limits.{limit}" for limit in rate_limit_names} <= set(Settings.fields_by_name())


def test_result_codes_are_0000_to_0013() -> None:
    assert [result.code for result in ResultCode] == [f"{number:04}" for number in range(14)]
