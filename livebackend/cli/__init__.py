"""The command line program `livebackend`; each command has its own module."""

from importlib import import_module

import click

_COMMANDS = (
    "check-config",
    "demo-data",
    "doctor",
    "housekeeping",
    "init",
    "ledger",
    "migrate",
    "order",
    "room",
    "serve",
    "user",
)


class _CommandGroup(click.Group):
    """Imports the module of a command when the command is used.

    The processes of `livebackend serve` import this package; the modules of all commands would need
    4 MB of memory in each of them, and in the parent process 60 MB.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"{__name__}.{name}"), name)
        return command


@click.group(cls=_CommandGroup)
@click.version_option(package_name="livebackend", message="%(prog)s %(version)s")
def main() -> None:
    """Run and administer a livebackend server."""
