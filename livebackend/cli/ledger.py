"""`livebackend ledger …`: audit, checkpoints, balances and reversals."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from livebackend.cli.ini_file import (
    ini_argument,
    opened_migrated_database,
    opened_services,
)
from livebackend.cli.output import (
    CommandFailed,
    json_option,
    print_and_exit,
    print_result,
)
from livebackend.core.errors import LedgerBusy, ServiceUnavailable
from livebackend.ledger.audit import CHECK_NAMES, audit
from livebackend.ledger.checkpoints import create_checkpoint
from livebackend.ledger.history import CoinHistory, HistoryRecord
from livebackend.ledger.transfers import TransferStatus
from livebackend.services.accounts import find_account_id

_MAX_RECORDS = 20


@click.group()
def ledger() -> None:
    """Audit the ledger, show balances, and reverse transfers.

    Example: livebackend ledger audit production.ini
    """


@ledger.command("audit")
@ini_argument
@json_option
@click.option(
    "--since-checkpoint",
    is_flag=True,
    help="Trust the latest checkpoint: read only newer transfers.",
)
def audit_command(ini: Path, *, since_checkpoint: bool) -> None:
    """Check the ledger for inconsistencies.

    The command exits with 1 if it finds an inconsistency. Servers can run meanwhile. Run the audit
    daily with --since-checkpoint, and weekly without this option.

    Example: livebackend ledger audit production.ini --since-checkpoint
    """
    with opened_migrated_database(ini) as database, _progress_bar() as progress:
        task_id = progress.add_task("", total=len(CHECK_NAMES))
        started_checks: list[str] = []

        def show_check(name: str) -> None:
            started_checks.append(name)
            progress.update(task_id, description=name, completed=len(started_checks) - 1)

        report = audit(database, since_checkpoint=since_checkpoint, on_check_started=show_check)
        progress.update(task_id, description="done", completed=len(CHECK_NAMES))
    finding_counts = {
        name: sum(finding.check == name for finding in report.findings) for name in CHECK_NAMES
    }
    for finding in report.findings:
        click.echo(f"{finding.check}: {finding.detail}", err=True)
    totals = (
        f"{report.transfers} transfers read, {report.coins} coins in all balances,"
        f" {report.audited_at}"
    )
    print_and_exit(
        "\n".join([*(f"{count:5}  {name}" for name, count in finding_counts.items()), totals]),
        passed=not report.findings,
        at=report.audited_at,
        transfers=report.transfers,
        coins=report.coins,
        checks=finding_counts,
        findings=[finding._asdict() for finding in report.findings],
    )


@ledger.command("show")
@ini_argument
@json_option
@click.argument("phone")
def show_command(ini: Path, phone: str) -> None:
    """Show the balance and transfers of a user.

    The latest 20 transfers are shown.

    Example: livebackend ledger show production.ini 13800000001
    """
    with opened_migrated_database(ini) as database, database.engine.connect() as connection:
        account_id = find_account_id(connection, phone)
        if account_id is None:
            raise CommandFailed("no account has this phone number")
        history = CoinHistory()
        coins = history.balance(connection, account_id)
        records, _ = history.records(connection, account_id, before=None, limit=_MAX_RECORDS)
    lines = [f"{coins} coins", *map(_record_line, records)]
    print_result(
        "\n".join(lines), coins=coins, records=[_record_facts(record) for record in records]
    )


@ledger.command("reverse")
@ini_argument
@json_option
@click.argument("transfer", type=click.IntRange(1, 2**63 - 1))
@click.option(
    "--reason", required=True, help="Reason, 1 to 200 characters; stored with the reversal."
)
def reverse_command(ini: Path, transfer: int, reason: str) -> None:
    """Reverse a gift or a refill. A repeated command reverses the transfer once.

    If the recipient has spent the coins, the command exits with 1, and the audit lists the reversal
    until a repeated command succeeds.

    Example: livebackend ledger reverse production.ini 4711 --reason "paid by a stolen card"
    """
    if not 1 <= len(reason) <= 200:
        raise click.BadParameter("must have 1 to 200 characters", param_hint="--reason")
    with opened_services(ini, needs_gateways=False) as services:
        try:
            outcome = services.reversals.reverse(transfer, reason=reason)
        except LookupError as error:
            raise CommandFailed(str(error)) from None
        except (LedgerBusy, ServiceUnavailable) as error:
            raise CommandFailed(
                f"transfer {transfer}: reversal not confirmed, run the command again: {error}"
            ) from None
    status = {
        TransferStatus.DONE: "reversed",
        TransferStatus.REPLAYED: "already reversed",
        TransferStatus.INSUFFICIENT_COINS: "not reversed: the recipient has spent the coins",
        TransferStatus.BALANCE_LIMIT: "not reversed: the sender's balance is at its limit",
    }[outcome.status]
    print_and_exit(
        f"transfer {transfer}: {status}",
        passed=outcome.status in (TransferStatus.DONE, TransferStatus.REPLAYED),
        transfer=transfer,
        status=status,
        reversal=outcome.transfer_id,
    )


@ledger.command("checkpoint")
@ini_argument
@json_option
def checkpoint_command(ini: Path) -> None:
    """Create a checkpoint of the ledger.

    A checkpoint contains sums and a hash of the transfers since the previous one. Store the printed
    hash outside the database: it reveals a changed ledger even if the checkpoints were changed too.

    Example: livebackend ledger checkpoint production.ini
    """
    with opened_migrated_database(ini) as database:
        checkpoint = create_checkpoint(database)
    if checkpoint is None:
        print_result(
            "no checkpoint created: there are no transfers since the last one", checkpoint=None
        )
        return
    print_result(
        f"checkpoint {checkpoint.id}: {checkpoint.transfers} transfers of"
        f" {checkpoint.amount_sum} coins, up to transfer {checkpoint.through_id}\n"
        f"{checkpoint.sha256.hex()}",
        checkpoint=checkpoint.id,
        through=checkpoint.through_id,
        transfers=checkpoint.transfers,
        coins=checkpoint.amount_sum,
        sha256=checkpoint.sha256.hex(),
    )


def _progress_bar() -> Progress:
    # The progress bar is on stderr, because programs read stdout. Rich draws nothing if stderr is
    # not a terminal.
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _record_line(record: HistoryRecord) -> str:
    details = " ".join(filter(None, [record.nickname, record.description]))
    return (
        f"{record.id:>12}  {record.created_at:%Y-%m-%d %H:%M:%S}  {record.kind.name.lower():8}"
        f"  {record.coins:+8}  {record.balance_after:8}  {details}"
    ).rstrip()


def _record_facts(record: HistoryRecord) -> dict[str, Any]:
    return {
        **record._asdict(),
        "kind": record.kind.name.lower(),
        "created_at": record.created_at.isoformat(),
    }
