"""Opens connections to nginx that send nothing, or one byte a second of a body.

A process of its own, because these connections would delay the clients of the load.

Usage: python -m tests.chaos.slow_connections PORT COUNT SECONDS idle|trickle
"""

import socket
import ssl
import sys
import time
from contextlib import suppress

import click

_CONNECTIONS_PER_ADDRESS = 40
_TIMEOUT_S = 20


def main(port: int, count: int, seconds: int, kind: str) -> None:
    """Open the connections, print how many there are, and hold them."""
    context = ssl.create_default_context()
    # The certificate of the test belongs to another name.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connections = []
    for number in range(count):
        connection = _connect(port, number // _CONNECTIONS_PER_ADDRESS)
        connections.append(_begin_body(context, connection) if kind == "trickle" else connection)
    click.echo(len(connections))
    for _ in range(seconds):
        time.sleep(1)
        for connection in connections if kind == "trickle" else []:
            with suppress(OSError):  # nginx can close a slow connection
                connection.sendall(b"a")


def _connect(port: int, address_number: int) -> socket.socket:
    address = f"127.1.{address_number // 250}.{1 + address_number % 250}"
    return socket.create_connection(
        ("127.0.0.1", port), timeout=_TIMEOUT_S, source_address=(address, 0)
    )


def _begin_body(context: ssl.SSLContext, connection: socket.socket) -> socket.socket:
    """Send the headers of a request over TLS."""
    tls_connection = context.wrap_socket(connection)
    tls_connection.sendall(
        b"POST /list HTTP/1.1\r\nHost: live.example\r\nContent-Length: 1000\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    return tls_connection


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
