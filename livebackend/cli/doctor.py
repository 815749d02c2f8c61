"""`livebackend doctor`: check an installation and print a remedy for each failure."""

from pathlib import Path

import click
from rich.console import Console

from livebackend.cli.ini_file import ini_argument, load_settings, opened_database
from livebackend.cli.output import json_option, print_and_exit, report_errors
from livebackend.container import make_event_check, make_gateways, required_connections
from livebackend.monitoring.diagnostics import CheckResult, Diagnostics
from livebackend.services.operator_orders import count_orders_without_gateway


@click.command()
@ini_argument
@json_option
def doctor(ini: Path) -> None:
    """Check an installation; print a remedy for each failed check.

    The command checks database, migrations, connections, disk, SMS, streams, payments, live events
    and clock. It changes nothing, sends no SMS, and exits with 1 if a check fails.

    Example: livebackend doctor production.ini
    """
    with report_errors():
        settings = load_settings(ini)
        gateways = make_gateways(settings)
        with opened_database(settings) as database:
            results = Diagnostics(
                database,
                gateways.sms,
                gateways.streams,
                data_dir=settings.data_dir,
                min_free_bytes=settings.pictures_min_free_disk_bytes,
                required_connections=required_connections(settings),
                sms_gateway=settings.sms_gateway,
                sms_api_url=settings.sms_api_url,
                count_orders_without_gateway=count_orders_without_gateway,
                payment_providers=[gateway.provider for gateway in gateways.payments],
                events=make_event_check(settings, gateways),
            ).run_checks()
    failed_checks = sum(not result.passed for result in results)
    summary = (
        f"{failed_checks} of {len(results)} checks failed" if failed_checks else "all checks passed"
    )
    print_and_exit(
        "\n".join([*map(_result_line, results), "", summary]),
        passed=not failed_checks,
        checks=[
            {
                "check": result.check,
                "passed": result.passed,
                "message": result.message,
                "remedy": result.remedy,
            }
            for result in results
        ],
    )


def _result_line(result: CheckResult) -> str:
    mark, style = ("ok    ", "green") if result.passed else ("FAILED", "bold red")
    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as capture:
        console.print(mark, style=style, end="")
        console.print(f" {result.check:11}{result.message}", markup=False)
        if result.remedy:
            console.print(f"       {'':11}{result.remedy}", markup=False)
    return capture.get().rstrip("\n")
