"""Fixtures: a scripted server, and a client of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.python.scripted_server import CLIENT_TYPES, ScriptedServer, client_of


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture(params=CLIENT_TYPES)
def client(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[Any]:
    """A Client or an AsyncClient of the scripted server; the methods of both block."""
    with client_of(server, request.param) as scripted_client:
        yield scripted_client
