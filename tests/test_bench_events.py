"""The clients and the tables of `make bench-events`."""

import shutil
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bench.events.clients import Target, running_clients
from bench.events.publisher import Publisher
from bench.events.report import write_sections
from bench.events.rows import Capacity, Results, Row, format_capacities, format_rows, percentile
from tests.support.event_engines import local_engine

OPENSSL_HEADER = Path("/usr/include/openssl/ssl.h")
needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") and OPENSSL_HEADER.exists()), reason="needs cc and libssl-dev"
)


def test_row_that_misses_its_bound_is_marked() -> None:
    results = Results()
    results.add(Row("20 slow subscribers", "Nchan", "cut after 4 s", "within 15 s", is_met=True))
    results.add(Row("latency", "Nchan", "p99 700 ms", "p99 < 500 ms", is_met=False))
    results.add(Row("catch-up", "Nchan", "3 s"))
    assert [row.measurement for row in results.missed] == ["latency"]
    assert format_rows(results.rows).splitlines()[2:] == [
        "| 20 slow subscribers | Nchan | cut after 4 s | within 15 s | yes |",
        "| latency | Nchan | p99 700 ms | p99 < 500 ms | **no** |",
        "| catch-up | Nchan | 3 s |  |  |",
    ]


def test_table_has_a_line_for_each_engine() -> None:
    capacity = Capacity("Nchan", 2000, 22.4, 51.3, 4.0, 25.2, 60.7, 29_000.4, 1.25)
    assert (
        format_capacities([capacity]).splitlines()[-1]
        == "| Nchan | 2000 | 22 | 51 | 4 | 25 | 61 | 29000 | 1.2 |"
    )


def test_percentile_is_the_value_below_which_that_part_of_the_values_is() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99)) == (51, 100)
    assert percentile([], 99) == float("inf")


@needs_compiler
@pytest.mark.processes
def test_clients_that_break_off_and_resume_have_each_event_once(
    tmp_path: Path, database_url: str
) -> None:
    with local_engine(tmp_path, database_url) as running:
        users = [running.new_user() for _ in range(3)]
        urls = [urlsplit(user.stream_url()) for user in users for _ in range(4)]
        targets = [Target("127.0.0.1", f"{url.path}?{url.query}") for url in urls]
        publisher = Publisher(running.engine, [user.channel for user in users], text_bytes=80)
        port = urls[0].port
        assert port
        with running_clients(tmp_path, targets, port, tls=False, breaks=4, seconds=2) as clients:
            publisher.publish(rate=1, seconds=0.5)  # each client now has an id
            clients.wait_for(len(targets), 20)
            clients.start_breaks()
            publisher.publish(rate=50, seconds=2)
            clients.wait_for(4 * len(publisher.times_ns), 20)
    assert clients.statistics["breaks"] > len(targets)
    assert len(clients.events) == 4 * len(publisher.times_ns)
    for events in clients.events_by_client().values():
        numbers = [received.event["seq"] for received in events]
        assert numbers[0] == 1
        assert all(later == earlier + 1 for earlier, later in pairwise(numbers))


def test_run_of_some_measurements_replaces_only_their_sections(tmp_path: Path) -> None:
    titles, file = ["first", "second", "third"], tmp_path / "EVENTS.md"
    write_sections({"third": "| c |\n", "first": "a\n\n| a |\n"}, titles, file)
    write_sections({"second": "| b |\n", "third": "| new |\n"}, titles, file)
    head, _, sections = file.read_text().partition("## ")
    assert head.startswith("# Results")
    assert sections == "first\n\na\n\n| a |\n\n## second\n\n| b |\n\n## third\n\n| new |\n"
