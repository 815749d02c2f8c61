"""`livebackend check-config`: validate the configuration of a server."""

import os
from pathlib import Path

import click

from livebackend.cli.ini import ini_argument, section
from livebackend.cli.output import faults_told, json_option, say
from livebackend.container import checked_settings


@click.command()
@ini_argument
@json_option
def check_config(ini: Path) -> None:
    """Report all configuration errors.

    A server does not start while there is one.

    Example: livebackend check-config production.ini
    """
    with faults_told():
        checked_settings(section(ini), os.environ)
    say("the settings are valid", faults=[])
