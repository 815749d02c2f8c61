"""deploy/with-database passes the connection to a program without the arguments."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.machine import ROOT

pytestmark = pytest.mark.processes

_PRINT_PROCESS = """
import json, os, sys
variables = {name: os.environ[name] for name in os.environ if name.startswith("PG")}
print(json.dumps([variables, open("/proc/self/cmdline").read()]))
"""


def run(url: str) -> tuple[dict[str, str], str]:
    """Run a program with the script; return its PG variables and its command line."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PG")
    } | {"LIVEBACKEND_DATABASE_URL": url}
    output = subprocess.check_output(
        [ROOT / "deploy/with-database", sys.executable, "-c", _PRINT_PROCESS], env=environment
    )
    variables, command_line = json.loads(output)
    return variables, command_line


def test_password_is_in_the_environment_and_not_in_the_arguments() -> None:
    variables, command_line = run(
        "postgresql+psycopg2://live:hunter%402%2Fx@db.example:5433/live?sslmode=verify-full"
    )
    assert variables == {
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGUSER": "live",
        "PGPASSWORD": "hunter@2/x",
        "PGDATABASE": "live",
        "PGSSLMODE": "verify-full",
    }
    assert "hunter" not in command_line


@pytest.mark.parametrize(
    ("url", "expected_variables"),
    [
        ("postgresql:///live", {"PGDATABASE": "live"}),
        (
            "postgresql://live@/live?host=/run/postgresql&port=5433",
            {
                "PGDATABASE": "live",
                "PGUSER": "live",
                "PGHOST": "/run/postgresql",
                "PGPORT": "5433",
            },
        ),
        ("postgresql://[::1]/live?dbname=other", {"PGHOST": "::1", "PGDATABASE": "other"}),
    ],
)
def test_parts_of_the_url_become_variables(url: str, expected_variables: dict[str, str]) -> None:
    assert run(url)[0] == expected_variables


def test_missing_url_is_reported_without_a_traceback() -> None:
    environment = {"PATH": os.environ["PATH"]}
    completed = subprocess.run(
        [ROOT / "deploy/with-database", "true"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 1
    assert completed.stderr == "LIVEBACKEND_DATABASE_URL is not set\n"
