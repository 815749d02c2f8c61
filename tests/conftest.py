"""One PostgreSQL for the whole run, a database for each worker, empty tables for each test."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from livebackend.container import Services
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from livebackend.development.sms import DevelopmentSms
from livebackend.monitoring.log_formatters import LineFormatter
from tests.support.api import SECRETS, Api, App, Person, Phone, World
from tests.support.application import INI, PRODUCTION_INI, create_app
from tests.support.secret_scanner import leaks
from tests.support.servers import Server, hardened, serving
from tests.support.started_processes import record, started

# A developer's own settings are not the tests'.
for name in [name for name in os.environ if name.startswith("LIVEBACKEND_")]:
    del os.environ[name]

# A test's example may be a whole conversation over a database: slow is no fault of it.
settings.register_profile(
    "livebackend",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("livebackend")


record()


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as cores: many tests wait for a process, or for something that fails late."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The server that all workers share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    embedded = EmbeddedPostgres(folder / "postgres", durable=False)
    embedded.start()
    yield embedded
    embedded.close()


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> Callable[[str], str]:
    """Makes an empty database, and returns its URL."""

    def make(name: str) -> str:
        server = Database(postgres.url("postgres"))
        with server.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        server.close()
        return postgres.url(name)

    return make


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[str], str]) -> str:
    """A database with all tables, this worker's own."""
    url = new_database(f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}")
    database = Database(url)
    migrate(database)
    database.close()
    return url


@pytest.fixture(scope="session")
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=30)
    yield database
    database.close()


@pytest.fixture(scope="session")
def var_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("var")


@pytest.fixture(scope="session")
def all_services() -> Iterator[list[Services]]:
    """The objects of every application that was made; they are closed in the end."""
    all_services: list[Services] = []
    yield all_services
    for services in all_services:
        services.close()


@pytest.fixture(autouse=True)
def _no_idle_connections(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the idle connections of all applications but one after a test, if they are many."""
    yield
    if "app" in request.fixturenames:
        main = request.getfixturevalue("app").registry.services
        others = [each for each in request.getfixturevalue("all_services") if each is not main]
        engines: list[Any] = [services.database.engine for services in others]
        if sum(engine.pool.checkedin() for engine in engines) > 20:
            for engine in engines:
                engine.dispose()


@pytest.fixture(scope="session")
def new_app(database_url: str, var_dir: Path, all_services: list[Services]) -> Callable[..., App]:
    """Create applications with `create_app`; they are closed at the end.

    The same settings get the same application.
    """

    @cache
    def make(file: Path = INI, **changed: str) -> App:
        app = create_app(database_url, var_dir, file, **changed)
        all_services.append(app.registry.services)
        return app

    return make


@pytest.fixture(scope="session")
def app(new_app: Callable[..., App]) -> App:
    """The application in spec mode."""
    return new_app()


@pytest.fixture(scope="session")
def new_hardened_app(new_app: Callable[..., App], database_url: str) -> Callable[..., App]:
    """Makes an application as production.ini has it, but for what it takes to run here."""
    needed = {name.replace(".", "__"): value for name, value in hardened(database_url).items()}

    def make(**changed: str) -> App:
        return new_app(PRODUCTION_INI, **{**needed, **changed})

    return make


@pytest.fixture(scope="session")
def hardened_app(new_hardened_app: Callable[..., App]) -> App:
    """The application in hardened mode."""
    return new_hardened_app()


@pytest.fixture(scope="session")
def hardened_server(database_url: str, var_dir: Path) -> Iterator[Server]:
    """The same in a process of its own, for what only a socket shows.

    Its tables, files and secrets are those of `hardened_app`, whose tokens are good there.
    """
    with serving(PRODUCTION_INI, var_dir, hardened(database_url)) as server:
        yield server


@pytest.fixture
def phone_of_ann(hardened_app: App) -> Phone:
    return Phone(hardened_app, "13800000001")


@pytest.fixture
def phone_of_ben(hardened_app: App) -> Phone:
    return Phone(hardened_app, "13800000002")


@pytest.fixture
def services(app: App) -> Services:
    services: Services = app.registry.services
    return services


@pytest.fixture
def sms(services: Services) -> DevelopmentSms:
    """The gateway, which keeps what it was to send."""
    assert isinstance(services.gateways.sms, DevelopmentSms)
    return services.gateways.sms


@pytest.fixture
def world(database: Database, var_dir: Path) -> World:
    """What a call could change."""
    return World(database, var_dir)


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    """Nothing is left of the test before."""
    if "database_url" in request.fixturenames:
        request.getfixturevalue("world").empty()
    for name in {"app", "hardened_app"} & set(request.fixturenames):
        request.getfixturevalue(name).registry.services.gateways.sms.sent.clear()


@pytest.fixture(autouse=True)
def _discreet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test's log holds a secret."""
    # A line for each call has tests of its own, and would stand in the way of all others.
    caplog.set_level("WARNING", "livebackend.calls")
    caplog.set_level("INFO", "livebackend")
    SECRETS.clear()
    yield
    formatter = LineFormatter("%(levelname)s %(name)s: %(message)s")
    records = caplog.get_records("setup") + caplog.get_records("call")
    log = "\n".join(map(formatter.format, records))
    assert leaks(log, SECRETS) == []


@pytest.fixture(autouse=True)
def only_marked_tests_start_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process without the mark for it: `make test-fast` runs it."""
    before = len(started)
    yield
    if not any(map(request.node.get_closest_marker, ("processes", "media"))):
        assert started[before:] == [], "mark this test with pytest.mark.processes"


@pytest.fixture
def api(app: App) -> Api:
    """Somebody who is not logged in."""
    return Api(app)


@pytest.fixture
def ann(api: Api) -> Person:
    return api.person("13800000001", nickname="Ann")


@pytest.fixture
def ben(api: Api) -> Person:
    return api.person("13800000002", nickname="Ben")


@pytest.fixture
def cat(api: Api) -> Person:
    return api.person("13800000003", nickname="Cat")
