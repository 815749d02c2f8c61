"""The request and its connection."""

from unittest.mock import Mock

import pytest
from sqlalchemy import Connection

from livebackend.api.request import Request


def test_request_without_a_transaction_has_no_connection() -> None:
    with pytest.raises(RuntimeError, match="this request has no transaction"):
        _ = Request.blank("/").db


def test_error_names_the_operation_without_a_transaction() -> None:
    request = Request.blank("/")
    request.operation = Mock()
    request.operation.name = "log_in"
    with pytest.raises(RuntimeError, match="log_in has no transaction"):
        _ = request.db


def test_request_in_a_transaction_has_its_connection() -> None:
    request = Request.blank("/")
    request.db = connection = Mock(spec=Connection)
    assert request.db is connection
