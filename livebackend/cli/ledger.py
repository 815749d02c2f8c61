"""`livebackend ledger …`: looking at the coins, and putting right what went wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from livebackend.cli.ini import ini_argument, load, opened_database, opened_services, setup_logging
from livebackend.cli.output import Fault, faults_told, finish, json_option, say
from livebackend.core.errors import LedgerBusy, Unavailable
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated
from livebackend.ledger.audit import NAMES, audit
from livebackend.ledger.checkpoints import seal
from livebackend.ledger.history import CoinHistory, Record
from livebackend.ledger.transfers import Status
from livebackend.services.accounts import find_id

_SHOWN = 20


@click.group()
def ledger() -> None:
    """Look at the coins, and put right what went wrong.

    Example: livebackend ledger audit production.ini
    """


@ledger.command("audit")
@ini_argument
@json_option
@click.option("--since-seal", is_flag=True, help="Believe the newest seal; read only what is new.")
def audit_command(ini: Path, *, since_seal: bool) -> None:
    """Check the books; exit with 1 if anything is wrong.

    The server may go on meanwhile. Run it daily with --since-seal, and weekly without.

    Example: livebackend ledger audit production.ini --since-seal
    """
    with _opened(ini) as database, _progress() as progress:
        bar = progress.add_task("", total=len(NAMES))
        begun: list[str] = []

        def tell(name: str) -> None:
            begun.append(name)
            progress.update(bar, description=name, completed=len(begun) - 1)

        done = audit(database, since_seal=since_seal, begun=tell)
        progress.update(bar, description="done", completed=len(NAMES))
    counts = {name: sum(each.check == name for each in done.findings) for name in NAMES}
    for finding in done.findings:
        click.echo(f"{finding.check}: {finding.detail}", err=True)
    size = f"{done.transfers} transfers read, {done.coins} coins held, {done.at}"
    finish(
        "\n".join([*(f"{count:5}  {name}" for name, count in counts.items()), size]),
        sound=not done.findings,
        at=done.at,
        transfers=done.transfers,
        coins=done.coins,
        checks=counts,
        findings=[each._asdict() for each in done.findings],
    )


@ledger.command("show")
@ini_argument
@json_option
@click.argument("phone")
def show_command(ini: Path, phone: str) -> None:
    """Show what somebody has, and his newest transfers.

    Example: livebackend ledger show production.ini 13800000001
    """
    with _opened(ini) as database, database.engine.connect() as connection:
        account_id = find_id(connection, phone)
        if account_id is None:
            raise Fault("nobody has that phone")
        history = CoinHistory()
        coins = history.balance(connection, account_id)
        found, _ = history.records(connection, account_id, before=None, limit=_SHOWN)
    lines = [f"{coins} coins", *map(_line, found)]
    say("\n".join(lines), coins=coins, records=[_facts(record) for record in found])


@ledger.command("reverse")
@ini_argument
@json_option
@click.argument("transfer", type=click.IntRange(1, 2**63 - 1))
@click.option("--reason", required=True, help="Why; 200 characters at most, kept for good.")
def reverse_command(ini: Path, transfer: int, reason: str) -> None:
    """Take a gift or a refill back from whoever got it, once however often this is run.

    If he has spent the coins, exit with 1; the audit lists it until it is run again and succeeds.

    Example: livebackend ledger reverse production.ini 4711 --reason "paid by a stolen card"
    """
    if not 1 <= len(reason) <= 200:
        raise click.BadParameter("1 to 200 characters", param_hint="--reason")
    with opened_services(ini) as services:
        try:
            outcome = services.reversals.reverse(transfer, reason=reason)
        except LookupError as error:
            raise Fault(str(error)) from None
        except (LedgerBusy, Unavailable) as error:
            raise Fault(f"not confirmed, run it again: {error}") from None
    said = {
        Status.DONE: "reversed",
        Status.REPLAYED: "was reversed before",
        Status.NO_COINS: "open: the coins are spent",
        Status.BALANCE_LIMIT: "open: the sender's balance is at its limit",
    }[outcome.status]
    finish(
        f"transfer {transfer}: {said}",
        sound=outcome.status in (Status.DONE, Status.REPLAYED),
        transfer=transfer,
        status=said,
        reversal=outcome.transfer_id,
    )


@ledger.command("seal")
@ini_argument
@json_option
def seal_command(ini: Path) -> None:
    """Close what is booked so far: sums, and a hash that is chained to the seal before.

    Keep the printed hash outside the database: whoever changed the books could change it there.

    Example: livebackend ledger seal production.ini
    """
    with _opened(ini) as database:
        made = seal(database)
    if made is None:
        say("nothing is new since the last seal", seal=None)
        return
    say(
        f"seal {made.id}: {made.transfers} transfers of {made.amount_sum} coins,"
        f" through {made.through_id}\n{made.sha256.hex()}",
        seal=made.id,
        through=made.through_id,
        transfers=made.transfers,
        coins=made.amount_sum,
        sha256=made.sha256.hex(),
    )


@contextmanager
def _opened(ini: Path) -> Iterator[Database]:
    with faults_told():
        setup_logging(ini)
        with opened_database(load(ini)) as database:
            check_migrated(database)
            yield database


def _progress() -> Progress:
    # On stderr, and not at all where nobody watches: what is printed is for programs too.
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _line(record: Record) -> str:
    about = " ".join(filter(None, [record.nickname, record.description]))
    return (
        f"{record.id:>12}  {record.at:%Y-%m-%d %H:%M:%S}  {record.kind.name.lower():8}"
        f"  {record.coins:+8}  {record.left:8}  {about}"
    ).rstrip()


def _facts(record: Record) -> dict[str, Any]:
    return {**record._asdict(), "kind": record.kind.name.lower(), "at": record.at.isoformat()}
