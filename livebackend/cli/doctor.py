"""`livebackend doctor`: check an installation, and advise how to fix it."""

from pathlib import Path

import click
from rich.console import Console

from livebackend.cli.ini import ini_argument, load, opened_database
from livebackend.cli.output import faults_told, finish, json_option
from livebackend.container import make_gateways
from livebackend.monitoring.diagnostics import Doctor, Finding
from livebackend.services.operator_orders import count_unserved_orders


@click.command()
@ini_argument
@json_option
def doctor(ini: Path) -> None:
    """Check an installation, and advise how to fix it.

    The command checks database, migrations, disk, SMS, streams, payments and clock. It changes
    nothing, sends no SMS, and exits with 1 if a check fails.

    Example: livebackend doctor production.ini
    """
    with faults_told():
        settings = load(ini)
        sms, streams, payments = make_gateways(settings)
        with opened_database(settings) as database:
            results = Doctor(
                database,
                sms,
                streams,
                folder=settings.var_dir,
                free_bytes_min=settings.pictures_free_bytes_min,
                sms_gateway=settings.sms_gateway,
                sms_url=settings.sms_url,
                unserved_orders=count_unserved_orders,
                payment_providers=[gateway.provider for gateway in payments],
            ).findings()
    failed = sum(not finding.sound for finding in results)
    summary = f"{failed} of {len(results)} checks failed" if failed else "all checks passed"
    finish(
        "\n".join([*map(_line, results), "", summary]),
        sound=not failed,
        findings=[
            {
                "check": finding.check,
                "sound": finding.sound,
                "says": finding.says,
                "do": finding.do,
            }
            for finding in results
        ],
    )


def _line(finding: Finding) -> str:
    mark, style = ("ok    ", "green") if finding.sound else ("FAILED", "bold red")
    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as capture:
        console.print(mark, style=style, end="")
        console.print(f" {finding.check:11}{finding.says}", markup=False)
        if finding.do:
            console.print(f"       {'':11}{finding.do}", markup=False)
    return capture.get().rstrip("\n")
