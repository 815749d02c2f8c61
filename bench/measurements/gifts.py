"""Gifts to many hosts and to one host."""

from bench import fill_database
from bench.harness import Bench, Token, rng

CONNECTION_COUNT = 64


def measure_gifts(bench: Bench) -> None:
    rows_many = bench.measure_repeated(
        "gift, many hosts", "/golden", gifts_to_many_hosts, connections=CONNECTION_COUNT
    )
    rows_one = bench.measure_repeated(
        "gift, one host",
        "/golden",
        lambda token: _forms(token, [fill_database.POPULAR_HOST] * 20_000),
        connections=CONNECTION_COUNT,
    )
    bench.meter.notes["gifts/s to one host ÷ to many hosts"] = ", ".join(
        f"{server} {row.rate / rows_many[server].rate:.2f}" for server, row in rows_one.items()
    )


def gifts_to_many_hosts(token: Token) -> list[str]:
    return _forms(token, [rng.randint(90_001, 99_000) for _ in range(20_000)])


def _forms(token: Token, hosts: list[int]) -> list[str]:
    return [
        f"send_gift=1&token={token(rng.randint(2000, 90_000))}&value=1&description=rose"
        f"&object={fill_database.phone_number(host)}"
        for host in hosts
    ]
