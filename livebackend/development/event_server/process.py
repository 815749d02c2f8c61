"""The process of the event server: serves until its parent process ends."""

import asyncio
import os
import socket
import sys

import orjson
import uvicorn

from livebackend.development.event_server.app import EventServerApp
from livebackend.development.event_server.options import EventServerOptions

# Data that waits in the kernel for a client that does not receive it; Linux doubles the value.
_SEND_BUFFER_BYTES = 32_768
# Connections that are neither streams nor publish events.
_OTHER_CONNECTIONS = 100


def main() -> None:
    """Read the options from the standard input, and serve until its end.

    The options contain a secret, which other users of the machine could see in the arguments. The
    parent closes the standard input when it closes the server, and also when it is killed.
    """
    options = EventServerOptions(**orjson.loads(sys.stdin.buffer.readline()))
    try:
        listener = listening_socket(options)
    except OSError as error:
        raise SystemExit(f"event server: cannot listen on {options.address}: {error}") from None
    asyncio.run(_serve(options, listener))


def listening_socket(options: EventServerOptions) -> socket.socket:
    """Return a socket whose connections end if the client does not receive for too long.

    Connections inherit the options of the socket. asyncio has no such timeout: it waits for as
    long as the client keeps the connection open.
    """
    host, _, port = options.address.rpartition(":")
    address = (host.strip("[]"), int(port))
    listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    if sys.platform == "linux":
        timeout_ms = round(options.send_timeout_s * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    listener.bind(address)
    return listener


async def _serve(options: EventServerOptions, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    # Clients connect again, so the open streams need no orderly end.
    loop.add_reader(sys.stdin.fileno(), os._exit, 0)
    config = uvicorn.Config(
        EventServerApp(options).asgi,
        http="h11",
        ws="none",
        lifespan="off",
        # The URL of a stream contains a ticket. uvicorn also reports each client that is too slow.
        access_log=False,
        log_level="critical",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=options.max_connections + _OTHER_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    main()
