"""`livebackend ledger …`: looking at the coins, and putting right what went wrong."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson
from pyramid.paster import setup_logging
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import DBAPIError

from livebackend.cli.ini import section
from livebackend.db import Database, open_database
from livebackend.ledger_writer import LedgerWriter
from livebackend.results import Failure, Unavailable
from livebackend.services.accounts import find_id
from livebackend.services.audit import NAMES, audit
from livebackend.services.ledger import Status
from livebackend.services.records import Record, balance, records
from livebackend.services.reversals import Reversals
from livebackend.services.seals import seal
from livebackend.settings import Settings, SettingsError

_SHOWN = 20

_ini = click.option(
    "--ini",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("production.ini"),
    show_default=True,
    help="Where the settings are.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group()
def ledger() -> None:
    """Look at the coins, and put right what went wrong.

    Example: livebackend ledger audit
    """


@ledger.command("audit")
@_ini
@_json
@click.option("--since-seal", is_flag=True, help="Believe the newest seal; read only what is new.")
def audit_command(ini: Path, *, as_json: bool, since_seal: bool) -> None:
    """Check the books; exit with 1 if anything is wrong.

    The server may go on meanwhile. Run it daily with --since-seal, and weekly without.

    Example: livebackend ledger audit --json
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
    if as_json:
        findings = [each._asdict() for each in done.findings]
        size = {"at": done.at, "transfers": done.transfers, "coins": done.coins}
        _print_json({**size, "checks": counts, "findings": findings})
    else:
        for name, count in counts.items():
            click.echo(f"{count:5}  {name}")
        for finding in done.findings:
            click.echo(f"{finding.check}: {finding.detail}", err=True)
        click.echo(f"{done.transfers} transfers read, {done.coins} coins held, {done.at}")
    if done.findings:
        raise SystemExit(1)


@ledger.command("show")
@_ini
@_json
@click.argument("phone")
def show_command(ini: Path, phone: str, *, as_json: bool) -> None:
    """Show what somebody has, and his newest transfers.

    Example: livebackend ledger show 13800000001
    """
    with _opened(ini) as database, database.engine.connect() as connection:
        account_id = find_id(connection, phone)
        if account_id is None:
            raise click.ClickException("nobody has that phone")
        coins = balance(connection, account_id)
        found, _ = records(connection, account_id, before=None, limit=_SHOWN)
    if as_json:
        _print_json({"coins": coins, "records": [_as_json(record) for record in found]})
        return
    click.echo(f"{coins} coins")
    for record in found:
        about = " ".join(filter(None, [record.nickname, record.description]))
        click.echo(
            f"{record.id:>12}  {record.at:%Y-%m-%d %H:%M:%S}  {record.kind.name.lower():8}"
            f"  {record.coins:+8}  {record.left:8}  {about}".rstrip()
        )


@ledger.command("reverse")
@_ini
@_json
@click.argument("transfer", type=click.IntRange(1, 2**63 - 1))
@click.option("--reason", required=True, help="Why; 200 characters at most, kept for good.")
def reverse_command(ini: Path, transfer: int, reason: str, *, as_json: bool) -> None:
    """Take a gift or a refill back from whoever got it, once however often this is run.

    If he has spent the coins, exit with 1; the audit lists it until it is run again and succeeds.

    Example: livebackend ledger reverse 4711 --reason "paid by a stolen card"
    """
    if not 1 <= len(reason) <= 200:
        raise click.BadParameter("1 to 200 characters", param_hint="--reason")
    with _opened(ini) as database:
        writer = LedgerWriter(database, number=random.SystemRandom().randrange(16))
        try:
            outcome = Reversals(database, writer).reverse(transfer, reason=reason)
        except LookupError as error:
            raise click.ClickException(str(error)) from None
        except (Failure, Unavailable) as error:
            raise click.ClickException(f"not confirmed, run it again: {error}") from None
        finally:
            writer.close()
    said = {
        Status.DONE: "reversed",
        Status.REPLAYED: "was reversed before",
        Status.NO_COINS: "open: the coins are spent",
    }[outcome.status]
    if as_json:
        _print_json({"transfer": transfer, "status": said, "reversal": outcome.transfer_id})
    else:
        click.echo(f"transfer {transfer}: {said}")
    if outcome.status is Status.NO_COINS:
        raise SystemExit(1)


@ledger.command("seal")
@_ini
@_json
def seal_command(ini: Path, *, as_json: bool) -> None:
    """Close what is booked so far: sums, and a hash that is chained to the seal before.

    Keep the printed hash outside the database: whoever changed the books could change it there.

    Example: livebackend ledger seal
    """
    with _opened(ini) as database:
        made = seal(database)
    if as_json:
        told = made and {
            "seal": made.id,
            "through": made.through_id,
            "transfers": made.transfers,
            "coins": made.amount_sum,
            "sha256": made.sha256.hex(),
        }
        _print_json(told)
    elif made is None:
        click.echo("nothing is new since the last seal")
    else:
        click.echo(
            f"seal {made.id}: {made.transfers} transfers of {made.amount_sum} coins,"
            f" through {made.through_id}\n{made.sha256.hex()}"
        )


@contextmanager
def _opened(ini: Path) -> Iterator[Database]:
    setup_logging(str(ini))
    try:
        database = open_database(Settings.load(section(ini), os.environ))
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    try:
        yield database
    except DBAPIError as error:
        raise click.ClickException(str(error.orig).strip()) from None
    finally:
        database.close()


def _progress() -> Progress:
    # On stderr, and not at all where nobody watches: what is printed is for programs too.
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _as_json(record: Record) -> dict[str, Any]:
    return {**record._asdict(), "kind": record.kind.name.lower(), "at": record.at.isoformat()}


def _print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
