"""The friend list and the search with 10,000, 100,000 and 1,000,000 users."""

from bench import fill_database
from bench.harness import WORKER_COUNT, Bench, list_forms
from bench.measurements.lists import search_forms
from bench.servers import environment, running_servers
from livebackend.database.engine import Database


def measure_user_counts(
    bench: Bench, small_database_url: str, database: Database, password_hash: str
) -> None:
    database_url = str(database.engine.url.render_as_string(hide_password=False))
    cpu_ms_by_title = {
        "10 k users": _measure(bench, "10 k users", small_database_url),
        "100 k users": _measure(bench, "100 k users", database_url),
    }
    # The ids start at 110,001, because other benchmarks have registered ids from 100,001 on.
    fill_database.add_users(
        database, first_id=110_001, last_id=1_000_000, password_hash=password_hash
    )
    fill_database.vacuum(database)
    cpu_ms_by_title["1 M users"] = _measure(bench, "1 M users", database_url)
    bench.meter.notes["CPU by number of users"] = "; ".join(
        f"{title}: friend list {list_cpu_ms:.3f} ms, search {search_cpu_ms:.3f} ms"
        for title, (list_cpu_ms, search_cpu_ms) in cpu_ms_by_title.items()
    )


def _measure(bench: Bench, title: str, database_url: str) -> tuple[float, float]:
    """Return the CPU time in ms of a friend list and of a search with this database."""
    variables = environment(database_url, bench.folder)
    with running_servers(["livebackend"], variables, bench.folder, workers=WORKER_COUNT) as servers:
        own_bench = Bench(bench.meter, servers, bench.folder, bench.issue_token)
        list_rows = own_bench.measure_repeated(
            f"friend list, {title}", "/list", list_forms("friendlist", range(1, 501))
        )
        search_rows = own_bench.measure_repeated(f"search, {title}", "/friend", search_forms(9000))
        return list_rows["livebackend"].cpu, search_rows["livebackend"].cpu
