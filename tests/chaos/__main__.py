"""Command line of `make chaos`.

The short form, which CI runs, leaves out the rows whose fault another test of CI covers:

* deploy/restart, of two servers and of a single one: tests/deployment/test_restart.py
* killed workers and parent processes, and a stopped PostgreSQL: `make ledger-crash-test`. The row
  "kill -9 of a worker without PostgreSQL", which is a part of the short form, has both faults too.
* silent connections to PostgreSQL: tests/database/test_call_deadlines.py, and the row "host of
  PostgreSQL replaced"
* a full temporary folder: tests/monitoring/test_metrics_files.py
* a log that is not read: tests/monitoring/test_log_queue.py
* a wrong clock: tests/hardened/test_reliability.py
* trickling bodies behind nginx: tests/deployment/test_nginx.py

It prints the p99 and the growth of the memory without limits, because both depend on what else the
machine does and on the length of the run.
"""

import signal
import time
from dataclasses import replace

import click

from tests.chaos import (
    database_faults,
    full_disk,
    kills,
    local_resources,
    migration,
    normal,
    providers,
    restarts,
    slow_clients,
)
from tests.chaos.rows import Row, Scale, Skipped
from tests.chaos.site import Site, running_site
from tests.chaos.table import print_head, print_row, print_skipped
from tests.support.small_disk import CannotMount

# Several times the duration on an idle machine.
_MAX_SECONDS, _MAX_SECONDS_SHORT = 3600, 1800

ROWS: list[Row] = [
    *normal.ROWS,
    *restarts.ROWS,
    *kills.ROWS,
    *database_faults.ROWS,
    *full_disk.ROWS,
    *local_resources.ROWS,
    *providers.ROWS,
    *slow_clients.ROWS,
    *migration.ROWS,
]


@click.command()
@click.option("--short", is_flag=True, help="Run the short form of CI: fewer and shorter rows.")
@click.option("--only", default="", help="Run only the rows whose names contain this text.")
@click.option("--list", "list_only", is_flag=True, help="List the rows.")
def main(*, short: bool, only: str, list_only: bool) -> None:
    """Inject faults under load; print one row for each, and exit with 1 if a limit is exceeded."""
    rows = [row for row in ROWS if only in row.name and not (short and row.covered_by)]
    if list_only:
        click.echo("\n".join(row.name for row in rows))
        return
    scale = Scale(is_short=short)
    # After SIGTERM and after the time limit, all processes are stopped, as after Ctrl-C.
    for signal_number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(signal_number, signal.default_int_handler)
    signal.alarm(scale.pick(_MAX_SECONDS, _MAX_SECONDS_SHORT))
    started_at = time.monotonic()
    print_head()
    with running_site() as site:
        failed_count = sum(not run_row(site, row, scale) for row in rows)
    click.echo(f"{len(rows)} rows, {failed_count} failed, {time.monotonic() - started_at:.0f} s")
    raise SystemExit(1 if failed_count else 0)


def run_row(site: Site, row: Row, scale: Scale) -> bool:
    """Observe a row and print it; return whether its limits hold."""
    started_at = time.monotonic()
    try:
        observation = row.observe(site, scale)
    except (Skipped, CannotMount) as skipped:
        print_skipped(row, str(skipped))
        return True
    except Exception as error:  # noqa: BLE001  # a row that fails must not hide the others
        site.recover()
        click.echo(f"{row.name:44} FAILED: {error!r:.1000}")
        return False
    if end := site.end_of_server():
        observation.errors.append(end)
    limits = replace(row.limits, p99_s=None) if scale.is_short else row.limits
    return print_row(row.name, limits, observation, time.monotonic() - started_at)


if __name__ == "__main__":
    main()
