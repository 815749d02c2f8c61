"""`livebackend check-config`: validate the configuration of a server."""

import os
from pathlib import Path

import click

from livebackend.cli.ini_file import app_section, ini_argument
from livebackend.cli.output import json_option, print_result, report_errors
from livebackend.container import checked_settings


@click.command()
@ini_argument
@json_option
def check_config(ini: Path) -> None:
    """Report all configuration errors.

    A server with a configuration error does not start.

    Example: livebackend check-config production.ini
    """
    with report_errors():
        checked_settings(app_section(ini), os.environ)
    print_result("the settings are valid", errors=[])
