"""Fixtures for all tests: database, applications, servers, users."""

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
from tests.support.api import SECRETS_IN_USE, ApiClient, App, PhoneClient, UserClient
from tests.support.application import DEVELOPMENT_INI, PRODUCTION_INI, create_app
from tests.support.database_state import DatabaseState
from tests.support.secret_scanner import find_leaks
from tests.support.servers import Server, hardened_settings, running_server
from tests.support.started_processes import record, started

# Settings in the developer's environment must not affect the tests.
for name in [name for name in os.environ if name.startswith("LIVEBACKEND_")]:
    del os.environ[name]

# A state machine test sends many requests per example and would exceed Hypothesis's deadline.
settings.register_profile(
    "livebackend",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("livebackend")

record()


def pytest_xdist_auto_num_workers() -> int:
    """Return two workers per core, because many tests wait for a process or a timeout."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The PostgreSQL server that all pytest workers share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    embedded_postgres = EmbeddedPostgres(folder / "postgres", durable=False)
    embedded_postgres.start()
    yield embedded_postgres
    embedded_postgres.close()


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> Callable[[str], str]:
    """Function that creates an empty database and returns its URL."""

    def create(name: str) -> str:
        server_database = Database(postgres.url("postgres"))
        with server_database.engine.execution_options(
            isolation_level="AUTOCOMMIT"
        ).connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        server_database.close()
        return postgres.url(name)

    return create


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[str], str]) -> str:
    """URL of this pytest worker's database, with all tables."""
    url = new_database(f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")
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
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("var")


@pytest.fixture(scope="session")
def all_services() -> Iterator[list[Services]]:
    """The services containers of all created applications, closed after the last test."""
    all_services: list[Services] = []
    yield all_services
    for services in all_services:
        services.close()


@pytest.fixture(autouse=True)
def dispose_idle_connections(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close idle database connections of applications other than `app` after a test.

    PostgreSQL accepts at most 300 connections; up to 20 idle connections stay open.
    """
    app = request.getfixturevalue("app") if "app" in request.fixturenames else None
    yield
    if app is not None:
        main_services = app.registry.services
        created_services = request.getfixturevalue("all_services")
        other_services = [
            services for services in created_services if services is not main_services
        ]
        engines: list[Any] = [services.database.engine for services in other_services]
        if sum(engine.pool.checkedin() for engine in engines) > 20:
            for engine in engines:
                engine.dispose()


@pytest.fixture(scope="session")
def new_app(database_url: str, data_dir: Path, all_services: list[Services]) -> Callable[..., App]:
    """Function that returns an application; equal arguments give the same application."""

    @cache
    def create(file: Path = DEVELOPMENT_INI, **changed_settings: str) -> App:
        app = create_app(database_url, data_dir, file, **changed_settings)
        all_services.append(app.registry.services)
        return app

    return create


@pytest.fixture(scope="session")
def app(new_app: Callable[..., App]) -> App:
    """The application with the settings of development.ini."""
    return new_app()


@pytest.fixture(scope="session")
def new_hardened_app(new_app: Callable[..., App], database_url: str) -> Callable[..., App]:
    """Function like `new_app`, for production.ini with `hardened_settings`."""
    overrides = {
        name.replace(".", "__"): value for name, value in hardened_settings(database_url).items()
    }

    def create(**changed_settings: str) -> App:
        return new_app(PRODUCTION_INI, **{**overrides, **changed_settings})

    return create


@pytest.fixture(scope="session")
def hardened_app(new_hardened_app: Callable[..., App]) -> App:
    """The application with the settings of production.ini and `hardened_settings`."""
    return new_hardened_app()


@pytest.fixture(scope="session")
def hardened_server(database_url: str, data_dir: Path) -> Iterator[Server]:
    """A server process that shares the database, files and secrets of `hardened_app`.

    A login token that the application or the server has issued is valid in both.
    """
    with running_server(PRODUCTION_INI, data_dir, hardened_settings(database_url)) as server:
        yield server


@pytest.fixture
def phone_of_ann(hardened_app: App) -> PhoneClient:
    return PhoneClient(hardened_app, "13800000001")


@pytest.fixture
def phone_of_ben(hardened_app: App) -> PhoneClient:
    return PhoneClient(hardened_app, "13800000002")


@pytest.fixture
def services(app: App) -> Services:
    services: Services = app.registry.services
    return services


@pytest.fixture
def sms(services: Services) -> DevelopmentSms:
    """The SMS gateway of `app`; it records the messages instead of sending them."""
    assert isinstance(services.gateways.sms, DevelopmentSms)
    return services.gateways.sms


@pytest.fixture
def database_state(database: Database, data_dir: Path) -> DatabaseState:
    """Access to the database tables and picture files that a request can change."""
    return DatabaseState(database, data_dir)


@pytest.fixture(autouse=True)
def empty_tables(request: pytest.FixtureRequest) -> None:
    """Delete the rows, pictures and recorded SMS messages of the previous test."""
    if "database_url" in request.fixturenames:
        request.getfixturevalue("database_state").empty()
    for name in {"app", "hardened_app"} & set(request.fixturenames):
        request.getfixturevalue(name).registry.services.gateways.sms.sent.clear()


@pytest.fixture(autouse=True)
def no_secrets_in_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test whose log contains a secret."""
    # Access log records are captured only by tests that lower this level.
    caplog.set_level("WARNING", "livebackend.access")
    caplog.set_level("INFO", "livebackend")
    SECRETS_IN_USE.clear()
    yield
    formatter = LineFormatter("%(levelname)s %(name)s: %(message)s")
    records = caplog.get_records("setup") + caplog.get_records("call")
    log = "\n".join(map(formatter.format, records))
    assert find_leaks(log, SECRETS_IN_USE) == []


@pytest.fixture(autouse=True)
def only_marked_tests_start_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test without the mark `processes` if it starts a process.

    `make test-fast` runs only tests that start no process.
    """
    started_count_before = len(started)
    yield
    if not any(map(request.node.get_closest_marker, ("processes", "media"))):
        assert started[started_count_before:] == [], "mark this test with pytest.mark.processes"


@pytest.fixture
def api(app: App) -> ApiClient:
    """A client without a login token."""
    return ApiClient(app)


@pytest.fixture
def ann(api: ApiClient) -> UserClient:
    return api.register_user("13800000001", nickname="Ann")


@pytest.fixture
def ben(api: ApiClient) -> UserClient:
    return api.register_user("13800000002", nickname="Ben")


@pytest.fixture
def cat(api: ApiClient) -> UserClient:
    return api.register_user("13800000003", nickname="Cat")
