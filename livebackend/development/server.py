"""The server of `pserve development.ini`: waitress, with the addresses of the pages in the log."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from waitress.server import create_server

from livebackend.config.errors import SettingsError
from livebackend.monitoring.startup_checks import check_port_is_free

log = logging.getLogger(__name__)

_PAGE_TITLES = {"docs": "API page", "demo": "demo"}
# These addresses mean every network interface. A browser cannot open them.
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104


def server_factory(global_config: Mapping[str, str], **options: str) -> Callable[[Any], None]:
    """Return a function that serves an application with the options of waitress.

    In an ini file, `use = egg:livebackend#development` refers to this function. Raises SystemExit
    with one line if the server cannot listen on the address. `pserve` calls this function before
    it creates the application, so that the embedded PostgreSQL does not start in vain.
    """
    try:
        check_port_is_free(options["host"], int(options["port"]))
    except SettingsError as error:
        raise SystemExit(f"{error.errors[0]}. For another port: make run PORT=7000") from None
    return partial(_serve, options)


def _serve(options: Mapping[str, str], app: Any) -> None:
    host = "127.0.0.1" if options["host"] in _ANY_ADDRESS else options["host"]
    server = create_server(app, **options)
    for path, title in _PAGE_TITLES.items():
        if path in app.registry.pages:
            log.info("%s: http://%s:%s/%s", title, host, options["port"], path)
    server.run()
