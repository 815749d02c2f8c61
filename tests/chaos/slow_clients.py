"""Slow and idle clients of nginx."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.proxied import proxied_servers
from tests.chaos.rows import Limits, Row, Scale
from tests.chaos.site import Site

_CLIENT_COUNT = 24
_MAX_P99_S = 0.2
_BODY_COUNT = 200
_CONNECTIONS_PER_ADDRESS = 40
_CONNECT_TIMEOUT_S = 10


def observe_trickling_bodies(site: Site, scale: Scale) -> Observation:
    """Send 200 bodies with one byte a second each."""

    def trickle(endpoint: Endpoint) -> None:
        with _connections(_BODY_COUNT, lambda address: _begin_body(endpoint, address)) as sockets:
            for _ in range(scale.pick(15, 6)):
                for connection in sockets:
                    with suppress(OSError):
                        connection.sendall(b"a")
                time.sleep(1)

    return _observe(site, trickle)


def observe_idle_connections(site: Site, scale: Scale) -> Observation:
    """Hold many connections that send nothing; nginx closes each after 10 s."""
    count = scale.pick(10_000, 3000)

    def hold(endpoint: Endpoint) -> None:
        with _connections(count, lambda address: _connect(endpoint, address)):
            time.sleep(scale.pick(8, 4))

    observation = _observe(site, hold)
    return replace(observation, notes=[f"{count} connections"])


def _observe(site: Site, inject: Callable[[Endpoint], None]) -> Observation:
    with proxied_servers(site, server_count=1) as (_, endpoint):
        load = Load(site.users, endpoint, _CLIENT_COUNT)
        return observe(load, site.postgres.url, lambda: inject(endpoint))


@contextmanager
def _connections(
    count: int, connect: Callable[[str], socket.socket]
) -> Iterator[list[socket.socket]]:
    """Open connections from many loopback addresses; close them at the end."""
    connections: list[socket.socket] = []
    try:
        for number in range(count):
            address_number = number // _CONNECTIONS_PER_ADDRESS
            address = f"127.1.{address_number // 250}.{1 + address_number % 250}"
            connections.append(connect(address))
        yield connections
    finally:
        for connection in connections:
            connection.close()


def _connect(endpoint: Endpoint, address: str) -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", endpoint.port), timeout=_CONNECT_TIMEOUT_S, source_address=(address, 0)
    )


def _begin_body(endpoint: Endpoint, address: str) -> socket.socket:
    """Send the headers of a request on a TLS connection."""
    assert endpoint.tls
    connection: ssl.SSLSocket = endpoint.tls.wrap_socket(_connect(endpoint, address))
    connection.sendall(
        b"POST /list HTTP/1.1\r\nHost: live.example\r\nContent-Length: 1000\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    return connection


_LIMITS = Limits(refused=0, recovery_s=0, p99_s=_MAX_P99_S)
ROWS = [
    Row(f"{_BODY_COUNT} trickling bodies behind nginx", observe_trickling_bodies, _LIMITS),
    Row("10,000 idle connections behind nginx", observe_idle_connections, _LIMITS),
]
