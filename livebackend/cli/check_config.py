"""`livebackend check-config`: validate the configuration of a server."""

from pathlib import Path

import click

from livebackend.cli.ini_file import check_section, ini_argument, opened_database, read_section
from livebackend.cli.output import json_option, print_result, report_errors
from livebackend.container import required_connections
from livebackend.monitoring.startup_checks import warn_of_connection_limit


@click.command()
@ini_argument
@json_option
def check_config(ini: Path) -> None:
    """Report all configuration errors.

    A server with a configuration error does not start. It starts if the database is unreachable,
    which is an error here.

    Example: livebackend check-config production.ini
    """
    with report_errors():
        settings, _ = check_section(read_section(ini), requires_database=True)
        if settings.database_url.get_secret_value() != "embedded":
            with opened_database(settings) as database:
                warn_of_connection_limit(database, required=required_connections(settings))
    print_result("the settings are valid", errors=[])
