"""The command line program `livebackend`; each command has its own module."""

import click

from livebackend.cli.check_config import check_config
from livebackend.cli.demo_data import demo_data
from livebackend.cli.doctor import doctor
from livebackend.cli.housekeeping import housekeeping
from livebackend.cli.init import init
from livebackend.cli.ledger import ledger
from livebackend.cli.migrate import migrate
from livebackend.cli.order import order
from livebackend.cli.room import room
from livebackend.cli.serve import serve
from livebackend.cli.user import user


@click.group()
@click.version_option(package_name="livebackend", message="%(prog)s %(version)s")
def main() -> None:
    """Run and administer a livebackend server."""


main.add_command(check_config)
main.add_command(demo_data)
main.add_command(doctor)
main.add_command(init)
main.add_command(ledger)
main.add_command(migrate)
main.add_command(order)
main.add_command(room)
main.add_command(serve)
main.add_command(housekeeping)
main.add_command(user)
