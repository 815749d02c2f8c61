"""Logins, whose CPU time is mostly that of the password hash."""

from collections.abc import Iterable
from dataclasses import replace
from math import ceil

from bench.fill_database import PASSWORD, phone_number
from bench.harness import LIVEBACKENDS, ROUND_COUNT, Bench, rng
from bench.load import Call
from livebackend_client import Client
from livebackend_client.protocol import Operation

CONCURRENT_LOGIN_COUNT = 64
# Requests per server in a whole run; a hash takes 0.3 s of CPU time.
_LOGINS_PER_SERVER = 24
_HASH: Operation[object] = Operation("/log", type(None), selector="hash")


def measure_logins(bench: Bench) -> None:
    # The baseline server is measured a second time, under the name "password hash": with hash=1 in
    # the form, it only hashes the password.
    bench.servers["password hash"] = replace(bench.servers["baseline"], name="password hash")
    count = ROUND_COUNT * ceil(_LOGINS_PER_SERVER / ROUND_COUNT)
    sequences = {
        server: login_calls(rng.randint(2000, 99_000) for _ in range(count))
        for server in bench.running((*LIVEBACKENDS, "baseline"))
    }
    sequences["password hash"] = [[Call(_hash_password)] for _ in range(count)]
    for server in sequences:  # warm up each server before the measurement
        sequences[server][0][0].send(Client(f"http://127.0.0.1:{bench.servers[server].port}"))
    rows, _ = bench.measure_ordered("login", sequences, clients=2)
    bench.meter.notes["login"] = (
        f"{rows['livebackend'].cpu / rows['password hash'].cpu:.3f} × the CPU of the password hash"
        f" alone, which takes {rows['password hash'].cpu:.0f} ms"
    )
    _measure_concurrent_logins(bench)


def _measure_concurrent_logins(bench: Bench) -> None:
    rows, _ = bench.measure_ordered(
        f"login, {CONCURRENT_LOGIN_COUNT} concurrent",
        {
            server: login_calls(range(2000, 2000 + CONCURRENT_LOGIN_COUNT))
            for server in bench.running(LIVEBACKENDS)
        },
        clients=CONCURRENT_LOGIN_COUNT,
        rounds=1,
    )
    row = rows["livebackend"]
    bench.meter.notes["concurrent logins"] = (
        f"{row.failed} of {CONCURRENT_LOGIN_COUNT} logins failed;"
        f" all of them together took {1000 * CONCURRENT_LOGIN_COUNT / row.rate:.0f} ms"
    )


def login_calls(accounts: Iterable[int]) -> list[list[Call]]:
    return [
        [Call(Client.log_in, None, {"user_id": phone_number(n), "password": PASSWORD})]
        for n in accounts
    ]


def _hash_password(client: Client) -> object:
    return client.call(_HASH, {"password": PASSWORD})
