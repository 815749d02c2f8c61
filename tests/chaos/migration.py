"""Migrations of a large database while the previous release serves requests."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from sqlalchemy import text

from livebackend.config.settings import environment_variable
from livebackend.database.engine import Database
from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.rows import CLIENT_COUNT, Limits, Row, Scale, Skipped
from tests.chaos.server import settings, start_ready, stop
from tests.chaos.site import Site, create_users, running_postgres
from tests.support.application import DEVELOPMENT_INI
from tests.support.postgres_node import socket_directory
from tools.releases import ReleaseMissing, copy_release, previous_release

_ROOT = DEVELOPMENT_INI.parent
_MIGRATION_TIMEOUT_S = 400
# The migrations of 0.2.0 and later fill columns of `accounts`.
_INSERT_ACCOUNTS = text(
    """
    INSERT INTO accounts (phone, password_hash, nickname)
    SELECT to_char(15000000000 + n, 'FM00000000000'), 'x', 'user ' || n
    FROM generate_series(1, :rows) AS n
    """
)


def observe_migration(site: Site, scale: Scale) -> Observation:
    """Run `livebackend migrate` on many accounts, under load on the previous release."""
    account_count = scale.pick(3_000_000, 100_000)
    site.stop_server()
    release = site.folder / "previous release"
    version = _copy_previous_release(release)
    with (
        socket_directory() as socket_root,
        running_postgres(site.folder / "previous", socket_root, migrated=False) as postgres,
    ):
        old_settings = _settings_of_release(release, postgres.url)
        _migrate(release, old_settings)
        users = create_users(postgres.url)
        _insert_accounts(postgres.url, account_count)
        server = start_ready(
            site.folder,
            old_settings,
            ini=release / "production.ini",
            variables={"PYTHONPATH": str(release)},
        )
        try:
            load = Load(users, Endpoint(server.port), CLIENT_COUNT)
            observation = observe(
                load,
                postgres.url,
                lambda: _migrate(_ROOT, settings(postgres.url)),
            )
        finally:
            stop(server)
    duration_s = observation.ended_at - observation.started_at
    note = f"{account_count:,} accounts of release {version} were migrated in {duration_s:.0f} s"
    return replace(observation, notes=[note])


def _copy_previous_release(folder: Path) -> str:
    """Copy the release before the newest migration; return its version."""
    try:
        release = previous_release()
    except ReleaseMissing as error:
        raise Skipped(str(error)) from None
    folder.mkdir()
    copy_release(release, folder)
    # Python would find the migrations of this checkout, which is installed.
    shutil.copytree(folder / "migrations", folder / "livebackend/migrations")
    return release.version


def _settings_of_release(release: Path, url: str) -> dict[str, str]:
    """Return the settings of the load's servers that the release knows."""
    program = "from livebackend.config.settings import Settings; print(*Settings.fields_by_name())"
    completed = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(release)},
        cwd=release,
        check=True,
        capture_output=True,
        timeout=60,
    )
    names = completed.stdout.decode().split()
    return {name: value for name, value in settings(url).items() if name in names}


def _migrate(release: Path, server_settings: dict[str, str]) -> None:
    """Run `livebackend migrate` with the code and the production.ini of a release."""
    variables = {environment_variable(name): value for name, value in server_settings.items()}
    completed = subprocess.run(
        [sys.executable, "-m", "livebackend.cli", "migrate", str(release / "production.ini")],
        env=os.environ | variables | {"PYTHONPATH": str(release)},
        cwd=release,
        capture_output=True,
        text=True,
        timeout=_MIGRATION_TIMEOUT_S,
        check=False,
    )
    assert completed.returncode == 0, f"migrate: {completed.stderr[-2000:]}"


def _insert_accounts(url: str, count: int) -> None:
    database = Database(url, statement_timeout_s=0)
    try:
        database.execute_one(_INSERT_ACCOUNTS, rows=count)
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as conn:
            conn.execute(text("VACUUM ANALYZE accounts"))
            conn.execute(text("CHECKPOINT"))
    finally:
        database.close()


ROWS = [
    Row(
        "migration of 3 M rows under load",
        observe_migration,
        Limits(refused=0, recovery_s=0, longest_s=1),
    )
]
