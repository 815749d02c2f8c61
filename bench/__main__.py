"""`make bench` compares livebackend with a baseline and FastAPI, in ten minutes."""

import os
import random
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import text

from bench import fill_database, report
from bench.load import Call, LoadResult, run_in_order, run_wrk
from bench.machine import memory_mb
from bench.measure import Meter, Row, post_form
from bench.servers import PEPPER, SECRET, Server, environment, running_servers
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.services.login_tokens import CurrentUser, LoginTokens
from livebackend.services.password_hashing import PasswordHasher
from livebackend_client import Client

# A measurement has ROUNDS rounds; in each round, every server is under load for SECONDS seconds.
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
# Workers of each server; more workers than cores do not increase the request rate.
WORKERS = os.cpu_count() or 1
# Concurrent connections to the measured server, unless a benchmark sets another number.
CONNECTIONS = 16
CONCURRENT_LOGINS = 64

_rng = random.Random(1)  # a fixed seed: every run sends the same requests


@dataclass
class Bench:
    """The meter, the running servers, and a function that issues login tokens for them."""

    meter: Meter
    servers: dict[str, Server]
    folder: Path
    issue_token: Callable[[str, int], str]

    def token(self, server: str, account: int) -> str:
        return self.issue_token(server, account)

    def measure_repeated(
        self,
        name: str,
        path: dict[str, str],
        forms: dict[str, list[str]],
        *,
        connections: int = CONNECTIONS,
        seconds: float = SECONDS,
        are_statements_counted: bool = True,
    ) -> dict[str, Row]:
        """Measure repeatable requests with wrk; return the table row of each server."""

        def action(server: Server) -> LoadResult:
            return run_wrk(
                server.port,
                path[server.name],
                forms[server.name],
                folder=self.folder,
                seconds=seconds,
                connections=connections,
            )

        actions = {self.servers[server]: action for server in forms}
        for server in actions:  # warm up each server before the measurement
            run_wrk(
                server.port,
                path[server.name],
                forms[server.name],
                folder=self.folder,
                seconds=1,
                connections=connections,
            )
        counted = {
            self.servers[server]: [(path[server], form) for form in forms[server]]
            for server in forms
        }
        return self.meter.measure(
            name, actions, rounds=ROUNDS, counted=counted if are_statements_counted else None
        )

    def measure_ordered(
        self,
        name: str,
        sequences: dict[str, list[list[Call]]],
        *,
        clients: int = CONNECTIONS,
    ) -> tuple[dict[str, Row], list[Any]]:
        """Measure calls that depend on each other or can be sent only once.

        Returns the table row of each server, and the `message` field of each response.
        """
        messages: list[Any] = []

        def action(server: Server) -> LoadResult:
            load = run_in_order(server.port, sequences[server.name], seconds=20, clients=clients)
            messages.extend(load.messages)
            return load

        rows = self.meter.measure(name, {self.servers[server]: action for server in sequences})
        return rows, messages


def same_path(path: str, *servers: str) -> dict[str, str]:
    return dict.fromkeys(servers, path)


def list_forms(bench: Bench, selector: str, accounts: list[int]) -> dict[str, list[str]]:
    return {
        server: [f"{selector}=1&token={bench.token(server, account)}" for account in accounts]
        for server in bench.servers
    }


def lists(bench: Bench) -> None:
    accounts = list(range(1, fill_database.LISTED_ACCOUNTS + 1))
    for title, selector in (
        ("friend list of 100", "friendlist"),
        ("message list of 50", "messagelist"),
    ):
        paths = {"livebackend": "/list", "baseline": "/list", "FastAPI": f"/{selector}"}
        bench.measure_repeated(title, paths, list_forms(bench, selector, accounts))


def searches(bench: Bench) -> None:
    paths = {"livebackend": "/friend", "baseline": "/friend", "FastAPI": "/search"}
    pairs = [(_rng.randint(2000, 99_000), _rng.randint(2000, 99_000)) for _ in range(20_000)]
    forms = {
        server: [
            f"search=1&token={bench.token(server, me)}&userId={fill_database.phone_number(other)}"
            for me, other in pairs
        ]
        for server in bench.servers
    }
    bench.measure_repeated("search", paths, forms)


def friend_requests(bench: Bench) -> None:
    """Measure friend requests: one user sends a request, another user accepts it.

    The servers also accept invalid message ids, so the benchmark does not request message lists.
    """
    first_accounts = {"livebackend": 2000, "baseline": 12_000}
    sequences: dict[str, list[list[Call]]] = {}
    for server, start in first_accounts.items():
        sequences[server] = []
        for me in range(start, start + 3000, 2):
            other = me + 1
            request = Call(
                Client.add, bench.token(server, me), {"userId": fill_database.phone_number(other)}
            )
            decision = {
                "userId": fill_database.phone_number(me),
                "verifyId": f"{fill_database.phone_number(other)},1",
                "objectId": f"{fill_database.phone_number(me)},1",
                "behaviour": "accept",
            }
            accept = Call(Client.deal_message, bench.token(server, other), decision)
            sequences[server].append([request, accept])
    bench.measure_ordered("add + accept", sequences)


def gifts(bench: Bench) -> None:
    servers = ("livebackend", "baseline")
    for title, to_one_host in (("gift, many hosts", False), ("gift, one host", True)):
        forms = {}
        for server in servers:
            forms[server] = [
                f"send_gift=1&token={bench.token(server, _rng.randint(2000, 90_000))}&value=1"
                f"&description=rose&object={fill_database.phone_number(host)}"
                for host in (
                    fill_database.POPULAR_HOST if to_one_host else _rng.randint(90_001, 99_000)
                    for _ in range(20_000)
                )
            ]
        bench.measure_repeated(title, same_path("/golden", *servers), forms, connections=64)


def logins(bench: Bench) -> None:
    # Measures the baseline server a second time: with hash=1, it only hashes the password.
    bench.servers["password hash"] = replace(bench.servers["baseline"], name="password hash")
    form = f"userId={{}}&password={fill_database.PASSWORD}&expire_in=3600"
    forms = {
        server: [
            form.format(fill_database.phone_number(_rng.randint(2000, 99_000))) for _ in range(1000)
        ]
        for server in ("livebackend", "baseline")
    }
    forms["password hash"] = [f"hash=1&password={fill_database.PASSWORD}"]
    rows = bench.measure_repeated(
        "login",
        same_path("/log", *forms),
        forms,
        connections=2,
        seconds=2 * SECONDS,
        # A login takes so long that the count would include statements of background threads.
        are_statements_counted=False,
    )
    bench.meter.notes["login"] = (
        f"{rows['livebackend'].cpu / rows['password hash'].cpu:.3f} × the CPU of the password hash"
        f" alone, which takes {rows['password hash'].cpu:.0f} ms"
    )
    sequences = {"livebackend": login_sequences(range(2000, 2000 + CONCURRENT_LOGINS))}
    rows, _ = bench.measure_ordered(
        f"login, {CONCURRENT_LOGINS} concurrent", sequences, clients=CONCURRENT_LOGINS
    )
    row = rows["livebackend"]
    bench.meter.notes["concurrent logins"] = (
        f"{row.failed} of {CONCURRENT_LOGINS} logins failed;"
        f" all of them together took {1000 * CONCURRENT_LOGINS / row.rate:.0f} ms"
    )


def login_sequences(accounts: Iterable[int]) -> list[list[Call]]:
    return [
        [
            Call(
                Client.log_in,
                None,
                {"userId": fill_database.phone_number(n), "password": fill_database.PASSWORD},
            )
        ]
        for n in accounts
    ]


def lists_during_logins(bench: Bench) -> None:
    """Measure the friend list during concurrent logins, and with idle connections."""
    forms = list_forms(bench, "friendlist", list(range(1, fill_database.LISTED_ACCOUNTS + 1)))
    forms = {"livebackend": forms["livebackend"]}
    port = bench.servers["livebackend"].port
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONCURRENT_LOGINS)]
    with_idle = bench.measure_repeated(
        "friend list, 64 idle connections", same_path("/list", "livebackend"), forms, connections=4
    )
    for connection in idle:
        connection.close()
    sequences = login_sequences(range(2000, 4000))
    seconds = ROUNDS * SECONDS + 3
    login_load = threading.Thread(
        target=run_in_order,
        args=(port, sequences),
        kwargs={"seconds": seconds, "clients": CONCURRENT_LOGINS},
    )
    login_load.start()
    time.sleep(1)
    during_logins = bench.measure_repeated(
        "friend list during 64 logins", same_path("/list", "livebackend"), forms, connections=4
    )
    login_load.join()
    login_row, idle_row = during_logins["livebackend"], with_idle["livebackend"]
    bench.meter.notes["friend list during logins"] = (
        f"p99 {login_row.p99_ms:.1f} ms during logins, {idle_row.p99_ms:.1f} ms with idle"
        f" connections: {login_row.p99_ms / idle_row.p99_ms:.1f} ×; {login_row.failed} failed"
    )


def list_sizes(bench: Bench) -> None:
    results = {}
    server = bench.servers["livebackend"]
    for size, account in sorted(
        {**fill_database.ACCOUNT_BY_LIST_SIZE, fill_database.FRIENDS: 1}.items()
    ):
        forms = {"livebackend": [f"friendlist=1&token={bench.token('livebackend', account)}"]}
        rows = bench.measure_repeated(
            f"list of {size} friends", same_path("/list", "livebackend"), forms, connections=4
        )
        response = post_form(server, "/list", forms["livebackend"][0])
        results[size] = rows["livebackend"].cpu, len(response.content)
    base_cpu, base_bytes = results[fill_database.FRIENDS]
    bench.meter.notes["friend list, relative to 100 friends"] = "; ".join(
        f"{size} friends: {cpu / base_cpu:.2f} × the CPU, {length / base_bytes:.2f} × the bytes"
        for size, (cpu, length) in results.items()
    )


def other_operations(bench: Bench) -> None:
    """Measure the operations that only livebackend implements."""

    def measure(name: str, calls: list[list[Call]], *, clients: int = 4) -> list[Any]:
        return bench.measure_ordered(name, {"livebackend": calls}, clients=clients)[1]

    def call(account: int, method: Callable[..., object], **params: Any) -> Call:
        return Call(method, bench.token("livebackend", account), params)

    # Accounts without a room: fill_database() opens rooms for every 98th account from 2000.
    hosts = [n for n in range(40_001, 42_000, 3) if (n - 2000) % 98]
    measure(
        "live + leave",
        [[call(n, Client.live, title="hello"), call(n, Client.leave)] for n in hosts],
    )
    measure("refill", [[call(n, Client.refill, money="50")] for n in hosts])
    measure(
        "unfriend",
        [
            [call(n, Client.unfriend, userId=fill_database.phone_number(n + 1))]
            for n in range(2000, 4000, 2)
        ],
    )
    measure(
        "delete a message",
        [
            [call(owner, Client.deal_message, **message(owner), behaviour="delete")]
            for owner in range(1, 800)
        ],
    )
    picture = BytesIO()
    Image.effect_noise((640, 480), 50).convert("RGB").save(picture, "JPEG")
    pictures = [BytesIO(picture.getvalue()) for _ in range(60)]
    measure(
        "upload of 640 × 480",
        [[Call(Client.upload, None, {"img": picture_file})] for picture_file in pictures],
    )
    registrations(bench, measure)


def message(owner: int) -> dict[str, str]:
    """Return the API parameters of a message that fill_database() inserted."""
    number = 1_700_000_000_000_000 + owner * 1000 + 7
    applicant = fill_database.phone_number(2000 + (owner * 50 + 7) % 98_000)
    phone = fill_database.phone_number(owner)
    return {"userId": phone, "verifyId": f"{phone},{number}", "objectId": f"{applicant},{number}"}


def registrations(bench: Bench, measure: Callable[..., list[Any]]) -> None:
    """Measure registrations; the codes are read from the log of the development SMS gateway."""
    phones = [f"139{n:08}" for n in range(40)]
    log = bench.folder / "servers.log"
    offset = log.stat().st_size
    tickets = measure(
        "send code",
        [[Call(Client.send_code, None, {"token": phone})] for phone in phones],
        clients=1,
    )
    with log.open() as lines:
        lines.seek(offset)
        codes = re.findall(r"code for .*?: (\d+)", lines.read())
    attempts = [
        {"code_v": ticket, "code": code} for ticket, code in zip(tickets, codes, strict=True)
    ]
    measure(
        "verify code",
        [[Call(Client.verify_code, None, attempt)] for attempt in attempts],
        clients=1,
    )
    account = {"password": "harbour-42", "nickname": "Ann"}
    measure(
        "register",
        [[Call(Client.register, None, {"userId": phone, **account})] for phone in phones],
        clients=2,
    )


def user_counts(
    meter: Meter, folder: Path, small_url: str, database: Database, password_hash: str
) -> None:
    """Measure the friend list and the search with 10 k, 100 k and 1 M users."""
    results: dict[str, tuple[float, float]] = {}

    def run(title: str, url: str) -> None:
        variables = environment(url, folder)
        with running_servers(["livebackend"], variables, folder, workers=WORKERS) as servers:
            bench = Bench(meter, servers, folder, new_tokens())
            friends = bench.measure_repeated(
                f"friend list, {title}",
                same_path("/list", "livebackend"),
                list_forms(bench, "friendlist", list(range(1, 501))),
            )
            pairs = [(_rng.randint(2000, 9000), _rng.randint(2000, 9000)) for _ in range(20_000)]
            forms = {
                "livebackend": [
                    f"search=1&token={bench.token('livebackend', me)}"
                    f"&userId={fill_database.phone_number(other)}"
                    for me, other in pairs
                ]
            }
            search = bench.measure_repeated(
                f"search, {title}", same_path("/friend", "livebackend"), forms
            )
            results[title] = friends["livebackend"].cpu, search["livebackend"].cpu

    run("10 k users", small_url)
    run("100 k users", str(database.engine.url.render_as_string(hide_password=False)))
    # Registrations of the other benchmarks use ids above 100,000.
    fill_database.add_users(database, first=110_001, last=1_000_000, password_hash=password_hash)
    fill_database.vacuum(database)
    run("1 M users", str(database.engine.url.render_as_string(hide_password=False)))
    meter.notes["CPU by number of users"] = "; ".join(
        f"{title}: friend list {friends:.3f} ms, search {search:.3f} ms"
        for title, (friends, search) in results.items()
    )


def memory(bench: Bench) -> None:
    """Measure livebackend's memory before the first request and under full load."""
    server = bench.servers["livebackend"]
    accounts = list(range(1, fill_database.LISTED_ACCOUNTS + 1))
    forms = list_forms(bench, "friendlist", accounts)["livebackend"]
    seconds = float(os.environ.get("BENCH_FULL_LOAD_SECONDS", "60"))
    samples = [memory_mb(server.pids)]
    for _ in range(2):
        run_wrk(
            server.port,
            "/list",
            forms,
            folder=bench.folder,
            seconds=seconds / 2,
            connections=CONNECTIONS,
        )
        samples.append(memory_mb(server.pids))
    bench.meter.notes["memory"] = (
        f"{samples[0]:.0f} MB idle; {samples[1]:.0f} MB after {seconds / 2:.0f} s of full load,"
        f" {samples[2]:.0f} MB after {seconds:.0f} s"
        f" (parent process and {WORKERS} workers; shared pages counted once)"
    )
    print(bench.meter.notes["memory"], flush=True)


def new_tokens() -> Callable[[str, int], str]:
    from bench import baseline_fastapi

    tokens = LoginTokens([SECRET], clock=time.time)

    def token(server: str, account: int) -> str:
        if server == "FastAPI":
            return baseline_fastapi.issue_token(account, 1)
        return tokens.issue(
            CurrentUser(account, fill_database.phone_number(account), 1), lifetime_s=86_400
        )

    return token


def create_database(
    postgres: EmbeddedPostgres, name: str, *, users: int, password_hash: str
) -> Database:
    server = Database(postgres.url("postgres"))
    with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.close()
    database = Database(postgres.url(name))
    migrate(database)
    fill_database.fill_database(database, users=users, password_hash=password_hash)
    return database


def main() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("make bench requires wrk. On Debian or Ubuntu: sudo apt install wrk")
    with tempfile.TemporaryDirectory(prefix="livebackend-bench-") as name:
        folder = Path(name)
        postgres = EmbeddedPostgres(folder / "postgres")
        postgres.start()
        try:
            run_benchmarks(postgres, folder)
        finally:
            postgres.close()


def run_benchmarks(postgres: EmbeddedPostgres, folder: Path) -> None:
    password_hash = PasswordHasher(PEPPER, cost=12).hash(fill_database.PASSWORD)
    database = create_database(postgres, "bench", users=100_000, password_hash=password_hash)
    small = create_database(postgres, "small", users=10_000, password_hash=password_hash)
    small.close()
    meter = Meter(database, folder / "postgres")
    # The tables are vacuumed already; autovacuum would distort the measurements.
    meter.configure("autovacuum", "off")
    variables = environment(postgres.url("bench"), folder)
    os.environ.update(variables)
    benchmarks: dict[str, Callable[[Bench], None]] = {
        "memory": memory,
        "lists": lists,
        "searches": searches,
        "friend_requests": friend_requests,
        "gifts": gifts,
        "logins": logins,
        "lists_during_logins": lists_during_logins,
        "list_sizes": list_sizes,
        "other_operations": other_operations,
    }
    selected = os.environ.get("ROWS", "").split() or [*benchmarks, "user_counts"]
    with running_servers(
        ["livebackend", "baseline", "FastAPI"], variables, folder, workers=WORKERS
    ) as servers:
        bench = Bench(meter, servers, folder, new_tokens())
        for name, benchmark in benchmarks.items():
            if name in selected:
                benchmark(bench)
    if "user_counts" in selected:
        user_counts(meter, folder, postgres.url("small"), database, password_hash)
    print(report.table(meter.rows, meter.notes))
    if not os.environ.get("ROWS"):
        report.write(meter.rows, meter.notes, database)
    database.close()


if __name__ == "__main__":
    main()
