"""A load process of bench/ledger.py that sends gifts over HTTP from many clients."""

import json
import random
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlencode


@dataclass(frozen=True)
class Task:
    """Input of a load process, read as JSON from stdin; users are phone numbers."""

    # Ports of the servers; each client holds one connection to one port.
    ports: list[int]
    client_count: int
    tokens: list[str]
    hosts: list[str]
    # Login token of the first host, if an additional client sends gifts with it; otherwise None.
    host_token: str | None
    # Users to whom the first host sends gifts.
    recipients: list[str]
    # Unix time at which the clients start to send gifts.
    begin_at: float
    seconds: float


class Client:
    """A client that sends one request at a time over one connection."""

    def __init__(self, port: int, task: Task, token: str | None, seed: int) -> None:
        self._task = task
        self._token = token
        self._rng = random.Random(seed)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.latencies: list[float] = []
        self._received = b""
        self._started = 0.0

    def send(self) -> None:
        recipients = self._task.recipients if self._token else self._task.hosts
        form = {
            "send_gift": "1",
            "token": self._token or self._rng.choice(self._task.tokens),
            "object": self._rng.choice(recipients),
            "value": "1",
            "description": "a rose",
        }
        body = urlencode(form).encode()
        head = (
            "POST /golden HTTP/1.1\r\nHost: bench\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._started = time.perf_counter()
        self.socket.sendall(head.encode() + body)

    def receive(self) -> bool:
        """Read the available bytes of the response; return whether it is complete."""
        self._received += self.socket.recv(65536)
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < int(
            head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
        ):
            return False
        if b'"0000"' not in body:
            raise AssertionError(self._received.decode())
        self.latencies.append(time.perf_counter() - self._started)
        self._received = b""
        return True


def main() -> None:
    task = Task(**json.loads(sys.stdin.read()))
    clients = [
        Client(task.ports[index % len(task.ports)], task, None, index)
        for index in range(task.client_count)
    ]
    if task.host_token:
        clients.append(Client(task.ports[0], task, task.host_token, -1))
    socket_selector = selectors.DefaultSelector()
    for client in clients:
        socket_selector.register(client.socket, selectors.EVENT_READ, client)
    time.sleep(max(0, task.begin_at - time.time()))
    ends_at = time.perf_counter() + task.seconds
    for client in clients:
        client.send()
    active_clients = len(clients)
    while active_clients:
        ready_keys = socket_selector.select(timeout=10)
        assert ready_keys, "the server sent no response within 10 s"
        for key, _ in ready_keys:
            if key.data.receive():
                if time.perf_counter() < ends_at:
                    key.data.send()
                else:
                    active_clients -= 1
    json.dump([latency for client in clients for latency in client.latencies], sys.stdout)


if __name__ == "__main__":
    main()
