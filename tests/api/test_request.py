"""Tests of the database connection of a request."""

from unittest.mock import Mock

import pytest
from sqlalchemy import Connection

from livebackend.api.request import Request


def test_connection_outside_a_transaction_raises_an_error() -> None:
    with pytest.raises(RuntimeError, match="this request has no transaction"):
        _ = Request.blank("/").db


def test_error_about_a_missing_transaction_names_the_operation() -> None:
    request = Request.blank("/")
    request.operation = Mock()
    request.operation.name = "log_in"
    with pytest.raises(RuntimeError, match="log_in has no transaction"):
        _ = request.db


def test_connection_in_a_transaction_is_returned() -> None:
    request = Request.blank("/")
    request.db = connection = Mock(spec=Connection)
    assert request.db is connection
