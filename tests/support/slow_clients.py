"""Clients that send a request slowly or not at all."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.support.nginx import HOST

Connect = Callable[[], socket.socket]

_HEAD = (
    f"POST /log HTTP/1.1\r\nHost: {HOST}\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n"
)


def plain_connections(port: int) -> Connect:
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=10)


def tls_connections(port: int, context: ssl.SSLContext) -> Connect:
    def connect() -> socket.socket:
        return context.wrap_socket(plain_connections(port)(), server_hostname=HOST)

    return connect


@contextmanager
def trickling_bodies(connect: Connect, count: int, interval_s: float = 1.0) -> Iterator[None]:
    """Send one byte of a body per interval on `count` connections; replace closed ones."""
    stop_event = threading.Event()

    def send() -> None:
        with ExitStack() as stack:
            connections = [open_connection(stack) for _ in range(count)]
            started_event.set()
            while not stop_event.wait(interval_s):
                for index, connection in enumerate(connections):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        with suppress(OSError):
                            connections[index] = open_connection(stack)

    def open_connection(stack: ExitStack) -> socket.socket:
        connection = stack.enter_context(connect())
        connection.sendall(_HEAD.encode())
        return connection

    started_event = threading.Event()
    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert started_event.wait(30)
        yield
    finally:
        stop_event.set()
        thread.join(timeout=60)


@contextmanager
def idle_connections(connect: Connect, count: int) -> Iterator[None]:
    """Keep `count` connections open without sending on them."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect())
        yield
