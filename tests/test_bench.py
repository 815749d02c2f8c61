"""Parts of `make bench`: its tables, its selection of servers, and the baseline's statements."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from bench import baseline_statements, external, load, machine, report, servers
from bench.measure import Row
from livebackend.database.engine import Database
from tests.support.servers import free_port


def row(server: str, *, cpu_ms: float, p99_ms: float, measurement: str = "friend list") -> Row:
    return Row(
        measurement,
        server,
        rate=1000,
        p50_ms=1,
        p99_ms=p99_ms,
        failed=0,
        server_cpu=cpu_ms,
        postgres_cpu=0,
        statements=None,
    )


def table_cells(rows: list[Row]) -> list[dict[str, str]]:
    """Return a dict from column title to cell for each row of the table."""
    lines = report.format_table(rows, {}).partition("\n\n")[0].splitlines()
    head, _, *cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return [dict(zip(head, row_cells, strict=True)) for row_cells in cells]


def test_table_has_the_ratio_of_livebackend_to_each_measured_server() -> None:
    cells, *_ = table_cells(
        [
            row("livebackend", cpu_ms=1, p99_ms=30),
            row("before", cpu_ms=4, p99_ms=20),
            row("baseline", cpu_ms=0.5, p99_ms=10),
            row("external", cpu_ms=0.25, p99_ms=60),
        ]
    )
    ratios = {title: cell for title, cell in cells.items() if "÷" in title}
    assert ratios == {
        "CPU ÷ before": "0.25",
        "CPU ÷ baseline": "2.00",
        "CPU ÷ external": "4.00",
        "p99 ÷ baseline": "3.00",
        "p99 ÷ external": "0.50",
    }


def test_table_has_no_column_for_a_server_that_was_not_measured() -> None:
    cells, *_ = table_cells([row("livebackend", cpu_ms=1, p99_ms=1)])
    assert not [title for title in cells if "÷" in title]


def test_rows_are_compared_only_with_rows_of_the_same_measurement() -> None:
    rows = [
        row("livebackend", cpu_ms=1, p99_ms=1),
        row("baseline", cpu_ms=1, p99_ms=1, measurement="search"),
    ]
    assert [cells["CPU ÷ baseline"] for cells in table_cells(rows)] == ["", ""]


def test_note_below_the_table_lists_the_ratios_to_the_earlier_version() -> None:
    rows = [
        row(server, cpu_ms=cpu_ms, p99_ms=1, measurement=measurement)
        for measurement in ("search", "gift")
        for server, cpu_ms in (("livebackend", 3), ("before", 4), ("baseline", 1))
    ]
    assert report.format_table(rows, {}).endswith("* CPU ÷ before: search 0.75; gift 0.75")


def test_baseline_prepares_a_statement_with_numbered_parameters() -> None:
    statement = baseline_statements.LOCK_ACCOUNTS
    assert "id = $1 OR phone = $2 OR public_id = $2" in statement.prepare
    assert statement.execute.endswith("(%(me)s, %(user_id)s)")


def test_postgresql_can_prepare_every_statement_of_the_baseline(database: Database) -> None:
    with database.engine.connect() as connection:
        connection.detach()  # the pool must not reuse a connection with these statements
        for statement in baseline_statements.Statement.all:
            connection.exec_driver_sql(statement.prepare)
        names = connection.execute(text("SELECT name FROM pg_prepared_statements")).scalars().all()
    expected_names = {
        re.findall("PREPARE (\\w+)", statement.prepare)[0]
        for statement in baseline_statements.Statement.all
    }
    assert expected_names <= set(names)


def test_earlier_version_must_be_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BENCH_BEFORE", str(tmp_path))
    with pytest.raises(SystemExit, match="is not a checkout of livebackend"):
        servers.earlier_version()
    (tmp_path / "livebackend").mkdir()
    (tmp_path / "livebackend" / "__init__.py").touch()
    assert servers.earlier_version() == tmp_path


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:8080", "http://127.0.0.1", "127.0.0.1:8080", "https://127.0.0.1:1"]
)
def test_url_of_the_external_server_must_have_a_port_of_this_machine(url: str) -> None:
    with pytest.raises(SystemExit, match="is not a URL such as"):
        external.external_port(url)


def test_external_server_has_the_port_of_its_url() -> None:
    assert external.external_port("http://127.0.0.1:8080") == 8080


def test_processes_that_listen_on_a_port_are_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert machine.listening_pids(port) == [os.getpid()]
    assert machine.listening_pids(port) == []


@pytest.fixture
def variables() -> dict[str, str]:
    return {**os.environ, "LIVEBACKEND_DATABASE_URL": "postgresql+psycopg2://a@/b?host=/tmp"}


@pytest.mark.processes
def test_command_of_the_external_server_gets_its_port_and_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]
) -> None:
    script = (
        "import os, socket, sys, time;"
        " assert os.environ['DATABASE_URL'] == 'postgresql://a@/b?host=%2Ftmp', os.environ;"
        " assert os.environ['PORT'] == sys.argv[1];"
        " listener = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
    )
    monkeypatch.setenv("BENCH_BASELINE", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("BENCH_BASELINE_COMMAND", f'{sys.executable} -c "{script}" {{port}}')
    with external.external_server(variables, tmp_path) as server:
        (pid,) = server.root_pids
        assert server.pids == [pid]
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.processes
def test_command_that_ends_is_reported_with_its_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]
) -> None:
    monkeypatch.setenv("BENCH_BASELINE_COMMAND", f"{sys.executable} -c \"print('no licence')\"")
    with (
        pytest.raises(SystemExit, match="no licence"),
        external.external_server(variables, tmp_path),
    ):
        pass


@pytest.fixture
def responding_process() -> Iterator[int]:
    """Yield the port of a server that responds to each request with the result code 0012."""
    script = (
        "import sys; from wsgiref.simple_server import make_server\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'application/json')])\n"
        '    return [b\'{"result": "0012"}\']\n'
        "make_server('127.0.0.1', int(sys.argv[1]), application).serve_forever()\n"
    )
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(port)], stderr=subprocess.DEVNULL
    ) as process:
        assert servers.wait_for_port(port, process, timeout_s=30)
        yield port
        process.kill()


@pytest.mark.processes
def test_benchmark_prints_the_database_of_a_server_that_the_user_starts(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    variables: dict[str, str],
    responding_process: int,
) -> None:
    monkeypatch.setenv("BENCH_BASELINE", f"http://127.0.0.1:{responding_process}")
    monkeypatch.delenv("BENCH_BASELINE_COMMAND", raising=False)
    with external.external_server(variables, tmp_path) as server:
        assert server.pids == machine.listening_pids(responding_process)
    assert machine.listening_pids(responding_process)  # the benchmark does not stop this server
    output = capsys.readouterr().out
    assert "export DATABASE_URL='postgresql://a@/b?host=%2Ftmp'" in output
    assert f"export PORT={responding_process}" in output


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("wrk") is None, reason="the program wrk is not installed")
@pytest.mark.parametrize(("code", "is_failed"), [("0012", False), ("0000", True)])
def test_response_without_the_expected_result_code_counts_as_failed(
    responding_process: int, tmp_path: Path, code: str, *, is_failed: bool
) -> None:
    result = load.run_wrk(
        responding_process,
        "/list",
        ["a=1"],
        folder=tmp_path,
        seconds=1,
        connections=1,
        expected_code=code,
    )
    assert result.requests > 0
    assert bool(result.failed) is is_failed
