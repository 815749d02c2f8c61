"""`make bench`: what each operation costs, beside the floor and the peer. Ten minutes."""

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

from bench import fill, report
from bench.load import Call, Load, by_wrk, in_turn
from bench.machine import memory_mb
from bench.measure import Meter, Row, posted
from bench.servers import PEPPER, SECRET, Server, environment, started
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.services.login_tokens import Account, LoginTokens
from livebackend.services.password_hashing import Hasher
from livebackend_client import Client

# How long one server is driven at a time, and how often it has its turn.
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
# Of the server and of the others; more workers than cores help nobody.
WORKERS = os.cpu_count() or 1
CONNECTIONS = 16
CROWD = 64

_dice = random.Random(1)  # the same calls in each run


@dataclass
class Bench:
    """What the rows need: the servers, and whose calls they answer."""

    meter: Meter
    servers: dict[str, Server]
    folder: Path
    tokens: Callable[[str, int], str]

    def token(self, server: str, account: int) -> str:
        return self.tokens(server, account)

    def repeated(
        self,
        name: str,
        path: dict[str, str],
        forms: dict[str, list[str]],
        *,
        connections: int = CONNECTIONS,
        seconds: float = SECONDS,
        are_statements_counted: bool = True,
    ) -> dict[str, Row]:
        """A row of calls that wrk may make over and over."""

        def action(server: Server) -> Load:
            return by_wrk(
                server.port,
                path[server.name],
                forms[server.name],
                folder=self.folder,
                seconds=seconds,
                connections=connections,
            )

        chosen = {self.servers[server]: action for server in forms}
        for server in chosen:  # whoever is cold warms up first
            by_wrk(
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
        return self.meter.row(
            name, chosen, rounds=ROUNDS, counted=counted if are_statements_counted else None
        )

    def followed(
        self,
        name: str,
        turns: dict[str, list[list[Call]]],
        *,
        clients: int = CONNECTIONS,
    ) -> tuple[dict[str, Row], list[Any]]:
        """A row of calls of which each follows another, or may be made once only.

        And the messages that they were answered with.
        """
        kept: list[Any] = []

        def action(server: Server) -> Load:
            load = in_turn(server.port, turns[server.name], seconds=20, clients=clients)
            kept.extend(load.messages)
            return load

        rows = self.meter.row(name, {self.servers[server]: action for server in turns})
        return rows, kept


def one_path(path: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, path)


def listed(bench: Bench, selector: str, accounts: list[int]) -> dict[str, list[str]]:
    return {
        server: [f"{selector}=1&token={bench.token(server, account)}" for account in accounts]
        for server in bench.servers
    }


def lists(bench: Bench) -> None:
    accounts = list(range(1, fill.LISTED + 1))
    for title, selector in (
        ("friend list of 100", "friendlist"),
        ("message list of 50", "messagelist"),
    ):
        paths = {"ours": "/list", "floor": "/list", "peer": f"/{selector}"}
        bench.repeated(title, paths, listed(bench, selector, accounts))


def searches(bench: Bench) -> None:
    paths = {"ours": "/friend", "floor": "/friend", "peer": "/search"}
    who = [(_dice.randint(2000, 99_000), _dice.randint(2000, 99_000)) for _ in range(20_000)]
    forms = {
        server: [
            f"search=1&token={bench.token(server, me)}&userId={fill.phone(other)}"
            for me, other in who
        ]
        for server in bench.servers
    }
    bench.repeated("search", paths, forms)


def befriended(bench: Bench) -> None:
    """Each turn: one asks, the other accepts, by ids that name nothing, so that no list is read."""
    first = {"ours": 2000, "floor": 12_000}
    turns: dict[str, list[list[Call]]] = {}
    for server, start in first.items():
        turns[server] = []
        for me in range(start, start + 3000, 2):
            other = me + 1
            ask = Call(Client.add, bench.token(server, me), {"userId": fill.phone(other)})
            deal = {
                "userId": fill.phone(me),
                "verifyId": f"{fill.phone(other)},1",
                "objectId": f"{fill.phone(me)},1",
                "behaviour": "accept",
            }
            accept = Call(Client.deal_message, bench.token(server, other), deal)
            turns[server].append([ask, accept])
    bench.followed("add + accept", turns)


def gifts(bench: Bench) -> None:
    names = ("ours", "floor")
    for title, hot in (("gift, spread", False), ("gift, one host", True)):
        forms = {}
        for server in names:
            forms[server] = [
                f"send_gift=1&token={bench.token(server, _dice.randint(2000, 90_000))}&value=1"
                f"&description=rose&object="
                f"{fill.phone(fill.HOT_HOST if hot else _dice.randint(90_001, 99_000))}"
                for _ in range(20_000)
            ]
        bench.repeated(title, one_path("/golden", *names), forms, connections=64)


def log_ins(bench: Bench) -> None:
    # The floor's server again, which then does nothing but the hash, under the load of a login.
    bench.servers["hash"] = replace(bench.servers["floor"], name="hash")
    form = f"userId={{}}&password={fill.PASSWORD}&expire_in=3600"
    forms = {
        server: [form.format(fill.phone(_dice.randint(2000, 99_000))) for _ in range(1000)]
        for server in ("ours", "floor")
    }
    forms["hash"] = [f"hash=1&password={fill.PASSWORD}"]
    rows = bench.repeated(
        "login",
        one_path("/log", *forms),
        forms,
        connections=2,
        seconds=2 * SECONDS,
        # They take so long that other threads' would be counted with them.
        are_statements_counted=False,
    )
    bench.meter.facts["login"] = (
        f"{rows['ours'].cpu / rows['hash'].cpu:.3f} × the CPU of the hash alone,"
        f" which takes {rows['hash'].cpu:.0f} ms"
    )
    turns = {"ours": log_in_turns(range(2000, 2000 + CROWD))}
    rows, _ = bench.followed(f"login, {CROWD} at once", turns, clients=CROWD)
    slowest = 1000 * CROWD / rows["ours"].rate
    bench.meter.facts["crowd"] = (
        f"{rows['ours'].failed} of {CROWD} failed; all took {slowest:.0f} ms"
    )


def log_in_turns(accounts: Iterable[int]) -> list[list[Call]]:
    return [
        [Call(Client.log_in, None, {"userId": fill.phone(n), "password": fill.PASSWORD})]
        for n in accounts
    ]


def crowded(bench: Bench) -> None:
    """The friend list while a crowd logs in, and while as many connections are idle."""
    forms = listed(bench, "friendlist", list(range(1, fill.LISTED + 1)))
    ours = {"ours": forms["ours"]}
    port = bench.servers["ours"].port
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(CROWD)]
    quiet = bench.repeated("friend list, 64 idle", one_path("/list", "ours"), ours, connections=4)
    for connection in idle:
        connection.close()
    logins = log_in_turns(range(2000, 4000))
    seconds = ROUNDS * SECONDS + 3
    crowd = threading.Thread(
        target=in_turn, args=(port, logins), kwargs={"seconds": seconds, "clients": CROWD}
    )
    crowd.start()
    time.sleep(1)
    busy = bench.repeated("friend list, 64 logins", one_path("/list", "ours"), ours, connections=4)
    crowd.join()
    bench.meter.facts["crowded"] = (
        f"p99 {busy['ours'].p99_ms:.1f} ms during logins, {quiet['ours'].p99_ms:.1f} ms beside idle"
        f" connections: {busy['ours'].p99_ms / quiet['ours'].p99_ms:.1f} ×;"
        f" {busy['ours'].failed} failed"
    )


def sizes(bench: Bench) -> None:
    found = {}
    ours = bench.servers["ours"]
    for size, account in sorted({**fill.SIZES, fill.FRIENDS: 1}.items()):
        forms = {"ours": [f"friendlist=1&token={bench.token('ours', account)}"]}
        rows = bench.repeated(
            f"list of {size} friends", one_path("/list", "ours"), forms, connections=4
        )
        reply = posted(ours, "/list", forms["ours"][0])
        found[size] = rows["ours"].cpu, len(reply.content)
    cost, length = found[fill.FRIENDS]
    bench.meter.facts["sizes"] = "; ".join(
        f"{size} friends: {cpu / cost:.2f} × the cost for {octets / length:.2f} × the bytes"
        for size, (cpu, octets) in found.items()
    )


def others(bench: Bench) -> None:
    """Every other operation, ours alone."""

    def once(name: str, calls: list[list[Call]], *, clients: int = 4) -> list[Any]:
        return bench.followed(name, {"ours": calls}, clients=clients)[1]

    def by(account: int, method: Callable[..., object], **params: Any) -> Call:
        return Call(method, bench.token("ours", account), params)

    # Those whom nobody filled with a room.
    streamers = [n for n in range(40_001, 42_000, 3) if (n - 2000) % 98]
    once(
        "live + leave",
        [[by(n, Client.live, title="hello"), by(n, Client.leave)] for n in streamers],
    )
    once("refill", [[by(n, Client.refill, money="50")] for n in streamers])
    once(
        "unfriend",
        [[by(n, Client.unfriend, userId=fill.phone(n + 1))] for n in range(2000, 4000, 2)],
    )
    once(
        "delete a message",
        [
            [by(owner, Client.deal_message, **message(owner), behaviour="delete")]
            for owner in range(1, 800)
        ],
    )
    picture = BytesIO()
    Image.effect_noise((640, 480), 50).convert("RGB").save(picture, "JPEG")
    pictures = [BytesIO(picture.getvalue()) for _ in range(60)]
    once("upload of 640 × 480", [[Call(Client.upload, None, {"img": each})] for each in pictures])
    newcomers(bench, once)


def message(owner: int) -> dict[str, str]:
    """One of those that this account was filled with."""
    number = 1_700_000_000_000_000 + owner * 1000 + 7
    applicant = fill.phone(2000 + (owner * 50 + 7) % 98_000)
    mine = fill.phone(owner)
    return {"userId": mine, "verifyId": f"{mine},{number}", "objectId": f"{applicant},{number}"}


def newcomers(bench: Bench, once: Callable[..., list[Any]]) -> None:
    """Registers as a phone does, one after the other: the embedded SMS logs the codes."""
    phones = [f"139{n:08}" for n in range(40)]
    log = bench.folder / "servers.log"
    began = log.stat().st_size
    tickets = once(
        "send code", [[Call(Client.send_code, None, {"token": each})] for each in phones], clients=1
    )
    with log.open() as lines:
        lines.seek(began)
        codes = re.findall(r"code for .*?: (\d+)", lines.read())
    judged = [{"code_v": ticket, "code": code} for ticket, code in zip(tickets, codes, strict=True)]
    once("judge a code", [[Call(Client.verify_code, None, each)] for each in judged], clients=1)
    account = {"password": "harbour-42", "nickname": "Ann"}
    once(
        "register",
        [[Call(Client.register, None, {"userId": each, **account})] for each in phones],
        clients=2,
    )


def users(meter: Meter, folder: Path, small: str, database: Database, password_hash: str) -> None:
    """The same two calls among 10 k, 100 k and 1 M users."""
    found: dict[str, tuple[float, float]] = {}

    def run(title: str, url: str) -> None:
        variables = environment(url, folder)
        with started(["ours"], variables, folder, workers=WORKERS) as servers:
            bench = Bench(meter, servers, folder, new_tokens())
            friends = bench.repeated(
                f"friend list, {title}",
                one_path("/list", "ours"),
                listed(bench, "friendlist", list(range(1, 501))),
            )
            who = [(_dice.randint(2000, 9000), _dice.randint(2000, 9000)) for _ in range(20_000)]
            forms = {
                "ours": [
                    f"search=1&token={bench.token('ours', me)}&userId={fill.phone(other)}"
                    for me, other in who
                ]
            }
            search = bench.repeated(f"search, {title}", one_path("/friend", "ours"), forms)
            found[title] = friends["ours"].cpu, search["ours"].cpu

    run("10 k users", small)
    run("100 k users", str(database.engine.url.render_as_string(hide_password=False)))
    # Some have registered meanwhile, and have the numbers that come next.
    fill.add_users(database, first=110_001, last=1_000_000, password_hash=password_hash)
    fill.vacuum(database)
    run("1 M users", str(database.engine.url.render_as_string(hide_password=False)))
    meter.facts["users"] = "; ".join(
        f"{title}: {friends:.3f} and {search:.3f} ms" for title, (friends, search) in found.items()
    )


def memory(bench: Bench) -> None:
    """Before any call, and while a minute of full load lasts."""
    server = bench.servers["ours"]
    forms = listed(bench, "friendlist", list(range(1, fill.LISTED + 1)))["ours"]
    seconds = float(os.environ.get("BENCH_FULL_LOAD_SECONDS", "60"))
    samples = [memory_mb(server.pids)]
    for _ in range(2):
        by_wrk(
            server.port,
            "/list",
            forms,
            folder=bench.folder,
            seconds=seconds / 2,
            connections=CONNECTIONS,
        )
        samples.append(memory_mb(server.pids))
    bench.meter.facts["memory"] = (
        f"{samples[0]:.0f} MB idle; {samples[1]:.0f} MB after {seconds / 2:.0f} s of full load,"
        f" {samples[2]:.0f} MB after {seconds:.0f} s"
        f" (parent and {WORKERS} workers; shared pages counted once)"
    )
    print(bench.meter.facts["memory"], flush=True)


def new_tokens() -> Callable[[str, int], str]:
    from bench import peer

    tokens = LoginTokens([SECRET], clock=time.time)

    def token(server: str, account: int) -> str:
        if server == "peer":
            return peer.issue(account, 1)
        return tokens.issue(Account(account, fill.phone(account), 1), lifetime_s=86_400)

    return token


def made(postgres: EmbeddedPostgres, name: str, *, users: int, password_hash: str) -> Database:
    server = Database(postgres.url("postgres"))
    with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.close()
    database = Database(postgres.url(name))
    migrate(database)
    fill.fill(database, users=users, password_hash=password_hash)
    return database


def main() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("make bench needs wrk. On Debian or Ubuntu: sudo apt install wrk")
    with tempfile.TemporaryDirectory(prefix="livebackend-bench-") as name:
        folder = Path(name)
        postgres = EmbeddedPostgres(folder / "postgres")
        postgres.start()
        try:
            measured(postgres, folder)
        finally:
            postgres.close()


def measured(postgres: EmbeddedPostgres, folder: Path) -> None:
    password_hash = Hasher(PEPPER, cost=12).hash(fill.PASSWORD)
    database = made(postgres, "bench", users=100_000, password_hash=password_hash)
    small = made(postgres, "small", users=10_000, password_hash=password_hash)
    small.close()
    meter = Meter(database, folder / "postgres")
    # What was filled is tidy already, and nobody's request pays for tidying up.
    meter.configure("autovacuum", "off")
    variables = environment(postgres.url("bench"), folder)
    os.environ.update(variables)
    rows: dict[str, Callable[[Bench], None]] = {
        "memory": memory,
        "lists": lists,
        "searches": searches,
        "befriended": befriended,
        "gifts": gifts,
        "log_ins": log_ins,
        "crowded": crowded,
        "sizes": sizes,
        "others": others,
    }
    only = os.environ.get("ROWS", "").split() or [*rows, "users"]
    with started(["ours", "floor", "peer"], variables, folder, workers=WORKERS) as servers:
        bench = Bench(meter, servers, folder, new_tokens())
        for row, measure in rows.items():
            if row in only:
                measure(bench)
    if "users" in only:
        users(meter, folder, postgres.url("small"), database, password_hash)
    print(report.table(meter.rows, meter.facts))
    if not os.environ.get("ROWS"):
        report.write(meter.rows, meter.facts, database)
    database.close()


if __name__ == "__main__":
    main()
