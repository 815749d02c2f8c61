"""Fixtures for browser tests: a server, and a Chromium without network access."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from tests.support.application import DEVELOPMENT_INI
from tests.support.chromium import CHROMIUM_FLAGS, CHROMIUM_PATH
from tests.support.servers import Server, free_port, running_server

# Chromium can connect only to 127.0.0.1.
LOOPBACK_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
LOCAL_EVENTS = "livebackend.development.local_events.LocalEvents"
VIEWPORTS = {"phone": (390, 844), "desk": (1280, 900)}
LANGUAGES = {"en": "en-GB", "zh": "zh-CN"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="directory for screenshots")


@pytest.fixture(scope="session")
def database(new_database: Callable[[str], str]) -> Iterator[Database]:
    """The database of the server."""
    database = Database(new_database("browser"))
    migrate(database)
    yield database
    database.close()


@pytest.fixture(scope="session")
def events_address() -> str:
    """The address of the server's event server."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="session")
def server(
    database: Database, events_address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    settings = {
        "database.url": database.engine.url.render_as_string(hide_password=False),
        "events.gateway": LOCAL_EVENTS,
        "events.address": events_address,
    }
    with running_server(DEVELOPMENT_INI, tmp_path_factory.mktemp("server"), settings) as server:
        yield server


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not Path(CHROMIUM_PATH).exists():
        pytest.exit(
            f"{CHROMIUM_PATH} does not exist:"
            " apt-get install chromium fonts-noto-cjk, or set CHROMIUM",
            2,
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM_PATH, args=[*CHROMIUM_FLAGS, LOOPBACK_ONLY]
        )
        yield browser
        browser.close()


@pytest.fixture(params=VIEWPORTS)
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def color_scheme() -> str:
    """Preferred color scheme of the browser: light or dark."""
    return "light"


@pytest.fixture
def context(
    chromium: Browser, server: Server, size: str, language: str, color_scheme: str
) -> Iterator[BrowserContext]:
    width, height = VIEWPORTS[size]
    context = chromium.new_context(
        base_url=server.address,
        viewport={"width": width, "height": height},
        locale=LANGUAGES[language],
        color_scheme="dark" if color_scheme == "dark" else "light",
        reduced_motion="reduce",
        device_scale_factor=2 if size == "phone" else 1,
    )
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, server: Server, events_address: str) -> Iterator[Page]:
    """A browser page.

    The test fails if the page sends a request to another server than `server` and its event server,
    or logs an error or a warning.
    """
    page = context.new_page()
    own_addresses = (f"127.0.0.1:{server.port}", events_address)
    disallowed_urls: list[str] = []
    console_errors: list[str] = []

    def check_url(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc not in own_addresses:
            disallowed_urls.append(url)

    page.on("request", lambda request: check_url(request.url))
    page.on("pageerror", lambda error: console_errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            console_errors.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    yield page
    assert disallowed_urls == []
    assert console_errors == []


@pytest.fixture
def save_screenshot(request: pytest.FixtureRequest, page: Page) -> Callable[[str], None]:
    """Function that saves a screenshot of the page, if `--screenshots` is set."""
    folder: Path | None = request.config.getoption("--screenshots")

    def save(name: str) -> None:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"{name}.png", scale="css")

    return save
