"""`make bench-attacks`: what hostile requests cost a normal client.

A normal client requests its friend list 25 times per second through nginx, from a server in
hardened mode with two workers, first without and then during each attack. The attacking clients
have four other addresses. Needs nginx and openssl.
"""

import http.client
import itertools
import multiprocessing
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from PIL import Image

from bench.fill_database import fill_database, phone_number
from bench.pictures import many_scan_jpeg
from bench.servers import PEPPER, SECRET, environment, running_servers
from livebackend.config.settings import environment_variable
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.services.login_tokens import CurrentUser, LoginTokens
from livebackend.services.password_hashing import PasswordHasher
from tests.support.machine import Machine, machine
from tests.support.nginx import start_nginx
from tests.support.pictures import display_p3_profile, encode_image, long_icc_pipeline

SECONDS = 15
_INTERVAL_S = 1 / 25
_USER_COUNT = 20_000
_PASSWORD = "harbour-42"
_FORM = "application/x-www-form-urlencoded"
_ATTACKING_ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
# Settings that let the development gateways serve the attacks, and nginx be the proxy.
_SETTINGS = {
    "server.workers": "2",
    "http.trusted_proxies": "127.0.0.1",
    "register.verified_phone": "optional",
}


class Post(NamedTuple):
    """A request: path, content type and body; an iterator is sent in chunks."""

    path: str
    content_type: str
    body: bytes | Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Attack:
    """Requests that `connections` clients send one after the other, without pauses."""

    name: str
    connections: int
    posts: Callable[[int], Iterator[Post]]


class Client:
    """A client of nginx with its own loopback address, over one TLS connection."""

    def __init__(self, port: int, address: str) -> None:
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1",
            port,
            timeout=60,
            source_address=(address, 0),
            context=ssl._create_unverified_context(),
        )

    def send(self, post: Post) -> int:
        """Send a request; return the HTTP status, or 0 for a closed connection."""
        body = post.body if isinstance(post.body, bytes) else post.body()
        try:
            self._connection.request(
                "POST", post.path, body, {"Content-Type": post.content_type, "Host": "live.example"}
            )
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0
        else:
            return response.status


def form(path: str, **fields: str) -> Post:
    return Post(path, _FORM, urlencode(fields).encode())


def upload(picture: bytes) -> Post:
    head = b'--b\r\nContent-Disposition: form-data; name="img"; filename="a.jpg"\r\n\r\n'
    return Post("/upload", "multipart/form-data; boundary=b", head + picture + b"\r\n--b--\r\n")


def icc_jpeg(curve_count: int) -> bytes:
    """Return a JPEG whose ICC profile applies `curve_count` curves to each pixel."""
    profile = display_p3_profile(D2B0=long_icc_pipeline(curve_count))
    return encode_image(Image.new("RGB", (1024, 1024)), "JPEG", icc_profile=profile)


def attacks(token: Callable[[int], str]) -> list[Attack]:
    """Return the attacks. `token` returns the login token of an account."""

    def repeat(post: Post) -> Callable[[int], Iterator[Post]]:
        return lambda _: itertools.repeat(post)

    def zeros() -> Iterator[bytes]:
        return itertools.repeat(bytes(65_536), 6400)  # 400 MiB

    def alternate(*posts: Callable[[int], Post]) -> Callable[[int], Iterator[Post]]:
        return lambda number: itertools.cycle([post(100 + number) for post in posts])

    percent_signs = b"a=" + b"%" * 6_000_000
    return [
        Attack(
            "urlencoded body of 6 MB to /upload", 6, repeat(Post("/upload", _FORM, percent_signs))
        ),
        Attack("chunked body of 400 MiB to /payments", 4, repeat(Post("/payments", _FORM, zeros))),
        Attack(
            "chunked body of 400 MiB to /pili/callback",
            4,
            repeat(Post("/pili/callback", _FORM, zeros)),
        ),
        Attack(
            "logins of one user with the right password",
            8,
            repeat(form("/log", userId=phone_number(100), password=_PASSWORD)),
        ),
        Attack(
            "logins of many users with wrong passwords",
            8,
            lambda number: (
                form("/log", userId=phone_number(1000 + 8 * n + number), password="wrong")
                for n in itertools.count()
            ),
        ),
        Attack("JPEG with 1500 scans", 6, repeat(upload(many_scan_jpeg(1500)))),
        Attack("JPEG with an ICC tag D2B0 of 20,000 curves", 6, repeat(upload(icc_jpeg(20_000)))),
        Attack(
            "live and leave",
            4,
            alternate(
                lambda n: form("/room", live="1", token=token(n)),
                lambda n: form("/room", leave="1", token=token(n)),
            ),
        ),
        Attack(
            "gifts of one coin",
            8,
            alternate(
                lambda n: form(
                    "/golden",
                    send_gift="1",
                    token=token(n),
                    object=phone_number(200),
                    value="1",
                    description="x",
                )
            ),
        ),
        Attack(
            "block and unblock",
            4,
            alternate(
                lambda n: form("/friend", block="1", token=token(n), userId=phone_number(201)),
                lambda n: form("/friend", unblock="1", token=token(n), userId=phone_number(201)),
            ),
        ),
        Attack(
            "profile changes",
            4,
            alternate(
                lambda n: form("/register", profile="1", token=token(n), nickname="a"),
                lambda n: form("/register", profile="1", token=token(n), nickname="b"),
            ),
        ),
        Attack(
            "registrations",
            8,
            lambda number: (
                form(
                    "/register", register="1", userId=f"139{8 * n + number:08}", password=_PASSWORD
                )
                for n in itertools.count()
            ),
        ),
    ]


def run_attack(port: int, attack: Attack, stopping: Event, results: Connection) -> None:
    """Send the requests of an attack until `stopping` is set, then send their statuses."""
    statuses: list[int] = []

    def send_all(posts: Iterator[Post], address: str) -> None:
        client = Client(port, address)
        for post in posts:
            if stopping.is_set():
                return
            statuses.append(client.send(post))

    posts = [attack.posts(number) for number in range(attack.connections)]
    threads = [
        threading.Thread(target=send_all, args=arguments, daemon=True)
        for arguments in zip(posts, itertools.cycle(_ATTACKING_ADDRESSES), strict=False)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS + 30
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    results.send(statuses)


def measure(port: int, friend_list: Post, attack: Attack | None) -> tuple[list[float], list[int]]:
    """Return the durations of normal requests and the statuses of the attack.

    The attack runs in its own process: in this one, its threads would delay the normal client.
    """
    processes = multiprocessing.get_context("fork")
    stopping = processes.Event()
    results, sender = processes.Pipe(duplex=False)
    attacker = None
    if attack:
        attacker = processes.Process(target=run_attack, args=(port, attack, stopping, sender))
        attacker.start()
    sender.close()  # so that `results` ends if the attacker's process dies
    client = Client(port, "127.0.0.1")
    durations_ms = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        start = time.perf_counter()
        status = client.send(friend_list)
        duration_s = time.perf_counter() - start
        durations_ms.append(duration_s * 1000 if status == 200 else 60_000)
        time.sleep(max(0, _INTERVAL_S - duration_s))
    if not (attack and attacker):
        return durations_ms, []
    stopping.set()
    try:
        if not results.poll(SECONDS + 40):
            raise RuntimeError(f"{attack.name}: the process of the attack does not end")
        return durations_ms, results.recv()
    except EOFError:
        raise RuntimeError(f"{attack.name}: the process of the attack has died") from None
    finally:
        attacker.kill()
        attacker.join(5)


def run(test_machine: Machine, port: int, friend_list: Post, token: Callable[[int], str]) -> None:
    print("| attack | p50 ms | p99 ms | attack requests/s | statuses |")
    print("|---|--:|--:|--:|---|")
    for attack in [None, *attacks(token), None]:
        durations_ms, statuses = measure(port, friend_list, attack)
        counts = {status: statuses.count(status) for status in sorted(set(statuses))}
        p99 = statistics.quantiles(durations_ms, n=100)[98]
        print(
            f"| {attack.name if attack else 'none'} | {statistics.median(durations_ms):.1f}"
            f" | {p99:.1f} | {len(statuses) / SECONDS:.1f}"
            f" | {' '.join(f'{status}: {count}' for status, count in counts.items())} |",
            flush=True,
        )
        time.sleep(2)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="livebackend-attacks-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's workers run as another user, and write bodies below
        postgres = EmbeddedPostgres(folder / "postgres")
        url = postgres.start()
        database = Database(url)
        migrate(database)
        password_hash = PasswordHasher(PEPPER, cost=12).hash(_PASSWORD)
        fill_database(database, user_count=_USER_COUNT, password_hash=password_hash)
        database.close()
        variables = {
            variable: value
            for variable, value in environment(url, folder).items()
            if not variable.startswith("LIVEBACKEND_LIMITS_")
        } | {environment_variable(setting): value for setting, value in _SETTINGS.items()}
        tokens = LoginTokens([SECRET], clock=time.time)

        def token(account: int) -> str:
            return tokens.issue(CurrentUser(account, phone_number(account), 1))

        friend_list = form("/list", friendlist="1", token=token(1))
        servers = running_servers(["livebackend"], variables, folder, workers=2)
        with machine(folder / "machine") as test_machine, servers as running:
            start_nginx(test_machine, f"server 127.0.0.1:{running['livebackend'].port};\n")
            run(test_machine, int(test_machine.ports["443"]), friend_list, token)
        postgres.close()


if __name__ == "__main__":
    main()
