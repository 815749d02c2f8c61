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
ROUND_COUNT = int(os.environ.get("BENCH_ROUNDS", "3"))
# Workers of each server; more workers than cores do not increase the request rate.
WORKER_COUNT = os.cpu_count() or 1
# Concurrent connections to the measured server, unless a benchmark sets another number.
CONNECTION_COUNT = 16
CONCURRENT_LOGIN_COUNT = 64

_rng = random.Random(1)  # a fixed seed: every run sends the same requests


@dataclass
class Bench:
    """The meter, the running servers, and a function that issues a login token."""

    meter: Meter
    servers: dict[str, Server]
    folder: Path
    issue_token: Callable[[str, int], str]

    def token(self, server: str, account: int) -> str:
        return self.issue_token(server, account)

    def measure_repeated(
        self,
        name: str,
        paths: dict[str, str],
        forms: dict[str, list[str]],
        *,
        connections: int = CONNECTION_COUNT,
        seconds: float = SECONDS,
        are_statements_counted: bool = True,
    ) -> dict[str, Row]:
        """Measure repeatable requests with wrk; return the table row of each server."""

        def action(server: Server) -> LoadResult:
            return run_wrk(
                server.port,
                paths[server.name],
                forms[server.name],
                folder=self.folder,
                seconds=seconds,
                connections=connections,
            )

        action_by_server = {self.servers[server]: action for server in forms}
        for server in action_by_server:  # warm up each server before the measurement
            run_wrk(
                server.port,
                paths[server.name],
                forms[server.name],
                folder=self.folder,
                seconds=1,
                connections=connections,
            )
        counted_posts = {
            self.servers[server]: [(paths[server], form) for form in forms[server]]
            for server in forms
        }
        return self.meter.measure(
            name,
            action_by_server,
            rounds=ROUND_COUNT,
            counted_posts=counted_posts if are_statements_counted else None,
        )

    def measure_ordered(
        self,
        name: str,
        sequences: dict[str, list[list[Call]]],
        *,
        clients: int = CONNECTION_COUNT,
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


def measure_lists(bench: Bench) -> None:
    accounts = list(range(1, fill_database.LISTED_ACCOUNTS + 1))
    for title, selector in (
        ("friend list of 100", "friendlist"),
        ("message list of 50", "messagelist"),
    ):
        paths = {"livebackend": "/list", "baseline": "/list", "FastAPI": f"/{selector}"}
        bench.measure_repeated(title, paths, list_forms(bench, selector, accounts))


def measure_searches(bench: Bench) -> None:
    paths = {"livebackend": "/friend", "baseline": "/friend", "FastAPI": "/search"}
    account_pairs = [
        (_rng.randint(2000, 99_000), _rng.randint(2000, 99_000)) for _ in range(20_000)
    ]
    forms = {
        server: [
            f"search=1&token={bench.token(server, me)}&userId={fill_database.phone_number(other)}"
            for me, other in account_pairs
        ]
        for server in bench.servers
    }
    bench.measure_repeated("search", paths, forms)


def measure_friend_requests(bench: Bench) -> None:
    """Measure friend requests: one user sends a request, another user accepts it.

    The servers do not need valid message ids to accept a friend request. So the benchmark sends
    invented ids, and does not request the message lists first.
    """
    first_account_id_by_server = {"livebackend": 2000, "baseline": 12_000}
    sequences: dict[str, list[list[Call]]] = {}
    for server, first_account_id in first_account_id_by_server.items():
        sequences[server] = []
        for applicant_id in range(first_account_id, first_account_id + 3000, 2):
            addressee_id = applicant_id + 1
            request = Call(
                Client.add,
                bench.token(server, applicant_id),
                {"user_id": fill_database.phone_number(addressee_id)},
            )
            acceptance_parameters = {
                "user_id": fill_database.phone_number(applicant_id),
                "verify_id": f"{fill_database.phone_number(addressee_id)},1",
                "object_id": f"{fill_database.phone_number(applicant_id)},1",
                "behaviour": "accept",
            }
            acceptance = Call(
                Client.deal_message, bench.token(server, addressee_id), acceptance_parameters
            )
            sequences[server].append([request, acceptance])
    bench.measure_ordered("add + accept", sequences)


def measure_gifts(bench: Bench) -> None:
    servers = ("livebackend", "baseline")
    for title, is_to_one_host in (("gift, many hosts", False), ("gift, one host", True)):
        forms = {}
        for server in servers:
            forms[server] = [
                f"send_gift=1&token={bench.token(server, _rng.randint(2000, 90_000))}&value=1"
                f"&description=rose&object={fill_database.phone_number(host)}"
                for host in (
                    fill_database.POPULAR_HOST if is_to_one_host else _rng.randint(90_001, 99_000)
                    for _ in range(20_000)
                )
            ]
        bench.measure_repeated(title, same_path("/golden", *servers), forms, connections=64)


def measure_logins(bench: Bench) -> None:
    # The baseline server is measured a second time, under the name "password hash": with hash=1 in
    # the form, it only hashes the password.
    bench.servers["password hash"] = replace(bench.servers["baseline"], name="password hash")
    form_template = f"userId={{}}&password={fill_database.PASSWORD}&expire_in=3600"
    forms = {
        server: [
            form_template.format(fill_database.phone_number(_rng.randint(2000, 99_000)))
            for _ in range(1000)
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
        # SQL statements are not counted: a login takes so long that the count would include
        # statements of background threads.
        are_statements_counted=False,
    )
    bench.meter.notes["login"] = (
        f"{rows['livebackend'].cpu / rows['password hash'].cpu:.3f} × the CPU of the password hash"
        f" alone, which takes {rows['password hash'].cpu:.0f} ms"
    )
    sequences = {"livebackend": login_sequences(range(2000, 2000 + CONCURRENT_LOGIN_COUNT))}
    rows, _ = bench.measure_ordered(
        f"login, {CONCURRENT_LOGIN_COUNT} concurrent", sequences, clients=CONCURRENT_LOGIN_COUNT
    )
    row = rows["livebackend"]
    bench.meter.notes["concurrent logins"] = (
        f"{row.failed} of {CONCURRENT_LOGIN_COUNT} logins failed;"
        f" all of them together took {1000 * CONCURRENT_LOGIN_COUNT / row.rate:.0f} ms"
    )


def login_sequences(accounts: Iterable[int]) -> list[list[Call]]:
    return [
        [
            Call(
                Client.log_in,
                None,
                {"user_id": fill_database.phone_number(n), "password": fill_database.PASSWORD},
            )
        ]
        for n in accounts
    ]


def measure_lists_during_logins(bench: Bench) -> None:
    """Compare the friend list during concurrent logins and with idle connections."""
    forms = list_forms(bench, "friendlist", list(range(1, fill_database.LISTED_ACCOUNTS + 1)))
    forms = {"livebackend": forms["livebackend"]}
    port = bench.servers["livebackend"].port
    idle_connections = [
        socket.create_connection(("127.0.0.1", port)) for _ in range(CONCURRENT_LOGIN_COUNT)
    ]
    rows_with_idle = bench.measure_repeated(
        "friend list, 64 idle connections",
        same_path("/list", "livebackend"),
        forms,
        connections=4,
    )
    for connection in idle_connections:
        connection.close()
    sequences = login_sequences(range(2000, 4000))
    seconds = ROUND_COUNT * SECONDS + 3
    login_load = threading.Thread(
        target=run_in_order,
        args=(port, sequences),
        kwargs={"seconds": seconds, "clients": CONCURRENT_LOGIN_COUNT},
    )
    login_load.start()
    time.sleep(1)
    rows_during_logins = bench.measure_repeated(
        "friend list during 64 logins", same_path("/list", "livebackend"), forms, connections=4
    )
    login_load.join()
    login_row, idle_row = rows_during_logins["livebackend"], rows_with_idle["livebackend"]
    bench.meter.notes["friend list during logins"] = (
        f"p99 {login_row.p99_ms:.1f} ms during logins, {idle_row.p99_ms:.1f} ms with idle"
        f" connections: {login_row.p99_ms / idle_row.p99_ms:.1f} ×; {login_row.failed} failed"
    )


def measure_list_sizes(bench: Bench) -> None:
    cpu_and_bytes_by_size = {}
    server = bench.servers["livebackend"]
    for friend_count, account in sorted(
        {**fill_database.ACCOUNT_BY_LIST_SIZE, fill_database.FRIENDS_PER_ACCOUNT: 1}.items()
    ):
        forms = {"livebackend": [f"friendlist=1&token={bench.token('livebackend', account)}"]}
        rows = bench.measure_repeated(
            f"list of {friend_count} friends",
            same_path("/list", "livebackend"),
            forms,
            connections=4,
        )
        response = post_form(server, "/list", forms["livebackend"][0])
        cpu_and_bytes_by_size[friend_count] = rows["livebackend"].cpu, len(response.content)
    base_cpu, base_bytes = cpu_and_bytes_by_size[fill_database.FRIENDS_PER_ACCOUNT]
    bench.meter.notes["friend list, relative to 100 friends"] = "; ".join(
        f"{friend_count} friends: {cpu / base_cpu:.2f} × the CPU,"
        f" {byte_count / base_bytes:.2f} × the bytes"
        for friend_count, (cpu, byte_count) in cpu_and_bytes_by_size.items()
    )


def measure_other_operations(bench: Bench) -> None:
    """Measure the operations that only livebackend implements."""

    def measure(name: str, sequences: list[list[Call]], *, clients: int = 4) -> list[Any]:
        return bench.measure_ordered(name, {"livebackend": sequences}, clients=clients)[1]

    def call(account: int, method: Callable[..., object], **params: Any) -> Call:
        return Call(method, bench.token("livebackend", account), params)

    # Only accounts without a room: fill_database() opens a room for accounts 2000, 2098, 2196, ….
    host_ids = [n for n in range(40_001, 42_000, 3) if (n - 2000) % 98]
    measure(
        "live + leave",
        [[call(n, Client.live, title="hello"), call(n, Client.leave)] for n in host_ids],
    )
    measure("refill", [[call(n, Client.refill, money=50)] for n in host_ids])
    measure(
        "unfriend",
        [
            [call(n, Client.unfriend, user_id=fill_database.phone_number(n + 1))]
            for n in range(2000, 4000, 2)
        ],
    )
    measure(
        "delete a message",
        [
            [call(account, Client.deal_message, **message_parameters(account), behaviour="delete")]
            for account in range(1, 800)
        ],
    )
    picture_buffer = BytesIO()
    Image.effect_noise((640, 480), 50).convert("RGB").save(picture_buffer, "JPEG")
    picture_files = [BytesIO(picture_buffer.getvalue()) for _ in range(60)]
    measure(
        "upload of 640 × 480",
        [[Call(Client.upload, None, {"img": picture_file})] for picture_file in picture_files],
    )
    measure_registrations(bench, measure)


def message_parameters(recipient_id: int) -> dict[str, str]:
    """Return parameters of `deal_message` for a request inserted by fill_database()."""
    sent_at_us = fill_database.FIRST_SENT_AT_US + recipient_id * 1000 + 7
    applicant_phone = fill_database.phone_number(2000 + (recipient_id * 50 + 7) % 98_000)
    phone = fill_database.phone_number(recipient_id)
    return {
        "user_id": phone,
        "verify_id": f"{phone},{sent_at_us}",
        "object_id": f"{applicant_phone},{sent_at_us}",
    }


def measure_registrations(bench: Bench, measure: Callable[..., list[Any]]) -> None:
    """Measure registrations; read SMS codes from the log of the development gateway."""
    phones = [f"139{n:08}" for n in range(40)]
    log = bench.folder / "servers.log"
    log_offset = log.stat().st_size
    tickets = measure(
        "send code",
        [[Call(Client.send_code, None, {"token": phone})] for phone in phones],
        clients=1,
    )
    with log.open() as lines:
        lines.seek(log_offset)
        codes = re.findall(r"code for .*?: (\d+)", lines.read())
    code_parameters = [
        {"code_v": ticket, "code": code} for ticket, code in zip(tickets, codes, strict=True)
    ]
    measure(
        "verify code",
        [[Call(Client.verify_code, None, parameters)] for parameters in code_parameters],
        clients=1,
    )
    other_parameters = {"password": "harbour-42", "nickname": "Ann"}
    measure(
        "register",
        [[Call(Client.register, None, {"user_id": phone, **other_parameters})] for phone in phones],
        clients=2,
    )


def measure_user_counts(
    meter: Meter, folder: Path, small_database_url: str, database: Database, password_hash: str
) -> None:
    """Measure the friend list and the search with 10 k, 100 k and 1 M users."""
    cpu_ms_by_title: dict[str, tuple[float, float]] = {}

    def measure_database(title: str, url: str) -> None:
        variables = environment(url, folder)
        with running_servers(["livebackend"], variables, folder, workers=WORKER_COUNT) as servers:
            bench = Bench(meter, servers, folder, new_token_issuer())
            list_rows = bench.measure_repeated(
                f"friend list, {title}",
                same_path("/list", "livebackend"),
                list_forms(bench, "friendlist", list(range(1, 501))),
            )
            account_id_pairs = [
                (_rng.randint(2000, 9000), _rng.randint(2000, 9000)) for _ in range(20_000)
            ]
            forms = {
                "livebackend": [
                    f"search=1&token={bench.token('livebackend', searcher_id)}"
                    f"&userId={fill_database.phone_number(other_id)}"
                    for searcher_id, other_id in account_id_pairs
                ]
            }
            search_rows = bench.measure_repeated(
                f"search, {title}", same_path("/friend", "livebackend"), forms
            )
            cpu_ms_by_title[title] = list_rows["livebackend"].cpu, search_rows["livebackend"].cpu

    measure_database("10 k users", small_database_url)
    measure_database("100 k users", str(database.engine.url.render_as_string(hide_password=False)))
    # The ids start at 110,001, because other benchmarks have registered ids from 100,001 on.
    fill_database.add_users(
        database, first_id=110_001, last_id=1_000_000, password_hash=password_hash
    )
    fill_database.vacuum(database)
    measure_database("1 M users", str(database.engine.url.render_as_string(hide_password=False)))
    meter.notes["CPU by number of users"] = "; ".join(
        f"{title}: friend list {list_cpu_ms:.3f} ms, search {search_cpu_ms:.3f} ms"
        for title, (list_cpu_ms, search_cpu_ms) in cpu_ms_by_title.items()
    )


def measure_memory(bench: Bench) -> None:
    """Measure livebackend's memory before the first request and under full load."""
    server = bench.servers["livebackend"]
    accounts = list(range(1, fill_database.LISTED_ACCOUNTS + 1))
    forms = list_forms(bench, "friendlist", accounts)["livebackend"]
    seconds = float(os.environ.get("BENCH_FULL_LOAD_SECONDS", "60"))
    memory_samples_mb = [memory_mb(server.pids)]
    for _ in range(2):
        run_wrk(
            server.port,
            "/list",
            forms,
            folder=bench.folder,
            seconds=seconds / 2,
            connections=CONNECTION_COUNT,
        )
        memory_samples_mb.append(memory_mb(server.pids))
    bench.meter.notes["memory"] = (
        f"{memory_samples_mb[0]:.0f} MB idle; {memory_samples_mb[1]:.0f} MB after"
        f" {seconds / 2:.0f} s of full load,"
        f" {memory_samples_mb[2]:.0f} MB after {seconds:.0f} s"
        f" (parent process and {WORKER_COUNT} workers; shared pages counted once)"
    )
    print(bench.meter.notes["memory"], flush=True)


def new_token_issuer() -> Callable[[str, int], str]:
    from bench import baseline_fastapi

    login_tokens = LoginTokens([SECRET], clock=time.time)

    def issue_token(server: str, account: int) -> str:
        if server == "FastAPI":
            return baseline_fastapi.issue_token(account, 1)
        return login_tokens.issue(
            CurrentUser(account, fill_database.phone_number(account), 1), lifetime_s=86_400
        )

    return issue_token


def create_database(
    postgres: EmbeddedPostgres, name: str, *, user_count: int, password_hash: str
) -> Database:
    server = Database(postgres.url("postgres"))
    with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.close()
    database = Database(postgres.url(name))
    migrate(database)
    fill_database.fill_database(database, user_count=user_count, password_hash=password_hash)
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
    database = create_database(postgres, "bench", user_count=100_000, password_hash=password_hash)
    small_database = create_database(
        postgres, "small", user_count=10_000, password_hash=password_hash
    )
    small_database.close()
    meter = Meter(database, folder / "postgres")
    # Autovacuum is off, because it would distort the measurements. The tables are already vacuumed.
    meter.configure("autovacuum", "off")
    variables = environment(postgres.url("bench"), folder)
    os.environ.update(variables)
    benchmarks: dict[str, Callable[[Bench], None]] = {
        "memory": measure_memory,
        "lists": measure_lists,
        "searches": measure_searches,
        "friend_requests": measure_friend_requests,
        "gifts": measure_gifts,
        "logins": measure_logins,
        "lists_during_logins": measure_lists_during_logins,
        "list_sizes": measure_list_sizes,
        "other_operations": measure_other_operations,
    }
    all_benchmarks = [*benchmarks, "user_counts"]
    selected_benchmarks = os.environ.get("ROWS", "").split() or all_benchmarks
    if not set(selected_benchmarks) <= set(all_benchmarks):
        raise SystemExit(f"ROWS: unknown benchmark; the benchmarks are {' '.join(all_benchmarks)}")
    with running_servers(
        ["livebackend", "baseline", "FastAPI"], variables, folder, workers=WORKER_COUNT
    ) as servers:
        bench = Bench(meter, servers, folder, new_token_issuer())
        for name, benchmark in benchmarks.items():
            if name in selected_benchmarks:
                benchmark(bench)
    if "user_counts" in selected_benchmarks:
        measure_user_counts(meter, folder, postgres.url("small"), database, password_hash)
    print(report.format_table(meter.rows, meter.notes))
    if not os.environ.get("ROWS"):
        report.write_results(meter.rows, meter.notes, database)
    database.close()
    if failures := [
        f"{row.measurement} ({row.server}): {row.failed}" for row in meter.rows if row.failed
    ]:
        raise SystemExit(f"requests failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
