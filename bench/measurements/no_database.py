"""A request that no server needs a database for: the login token is missing."""

from bench.harness import Bench


def measure_no_database(bench: Bench) -> None:
    bench.measure_repeated(
        "no database",
        "/list",
        lambda _: ["friendlist=1"],
        fastapi_path="/nothing",
        expected_code="0012",
    )
