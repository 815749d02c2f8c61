"""`livebackend order …`: payment orders, refunds, comparison with bills."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from livebackend.api.error_table import error_outcome
from livebackend.cli.ini_file import (
    ini_argument,
    opened_migrated_database,
    opened_services,
)
from livebackend.cli.output import (
    CommandFailed,
    align_columns,
    json_option,
    print_and_exit,
    print_result,
)
from livebackend.core.errors import PaymentRejected, ServiceUnavailable
from livebackend.core.masking import mask_phone
from livebackend.database.engine import Database
from livebackend.gateways.payments.protocol import CHINA, PaymentFailed
from livebackend.services.operator_orders import StoredOrder, find_order, list_orders
from livebackend.services.payment_bills import NOT_CREDITED, BillReport, compare_bill
from livebackend.services.payment_refunds import RefundRefused

_ORDER_STATES = ("pending", "paid", "closed", "refunding", "refunded")

order_argument = click.argument("order_id", metavar="ORDER")


@click.group()
def order() -> None:
    """List, settle, refund and reconcile orders.

    Example: livebackend order list production.ini --state pending
    """


@order.command("list")
@ini_argument
@click.option("--state", type=click.Choice(_ORDER_STATES), help="Only orders in this state.")
@click.option("--phone", help="Only orders of the user with this phone.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="Maximum number of orders.",
)
@json_option
def list_command(ini: Path, *, state: str | None, phone: str | None, limit: int) -> None:
    """List payment orders, newest first.

    Phone numbers are masked.

    Example: livebackend order list production.ini --state refunding
    """
    with opened_migrated_database(ini) as database:
        orders = database.run(
            lambda connection: list_orders(connection, state=state, phone=phone, limit=limit)
        )
    rows = [
        (
            order_row.order_id,
            order_row.provider,
            order_row.state,
            f"{order_row.created_at:%Y-%m-%d %H:%M}",
            order_row.fen,
            order_row.coins,
            mask_phone(order_row.phone) if order_row.phone else None,
        )
        for order_row in orders
    ]
    column_headings = ("order", "provider", "state", "created (UTC)", "fen", "coins", "phone")
    text = align_columns([column_headings, *rows]) if rows else "there are no matching orders"
    print_result(text, orders=[_order_facts(order_row) for order_row in orders])


@order.command("show")
@ini_argument
@order_argument
@json_option
def show_command(ini: Path, order_id: str) -> None:
    """Show a payment order.

    Example: livebackend order show production.ini 0f5e4c1b6f3d4b7ea1d2c3b4a5968778
    """
    with opened_migrated_database(ini) as database:
        _print_order(database, order_id)


@order.command("settle")
@ini_argument
@order_argument
@json_option
def settle_command(ini: Path, order_id: str) -> None:
    """Query the state of an order at its provider now.

    If the order was paid, its coins are credited; if the order has expired, it is closed.

    Example: livebackend order settle production.ini 0f5e4c1b6f3d4b7ea1d2c3b4a5968778
    """
    with opened_services(ini) as services, _report_order_errors(order_id):
        services.payment_reconciliation.reconcile(order_id)
        _print_order(services.database, order_id)


@order.command("refund")
@ini_argument
@order_argument
@click.option(
    "--reason",
    required=True,
    help="Reason of the refund, 1 to 200 characters. WeChat shows the user the first 80 bytes.",
)
@json_option
def refund_command(ini: Path, order_id: str, *, reason: str) -> None:
    """Refund an order and take back its coins.

    The provider refunds an order once, even if you repeat the command. The refund is refused if the
    user has spent the coins. If the provider fails, the order stays in the state refunding, and the
    servers retry.

    Example: livebackend order refund production.ini 0f5e4c1b6f3d4b7ea1d2c3b4a5968778 --reason asked
    """
    if not 1 <= len(reason) <= 200:
        raise click.BadParameter("must have 1 to 200 characters", param_hint="--reason")
    with opened_services(ini) as services, _report_order_errors(order_id):
        services.payment_refunds.refund(order_id, reason=reason)
        _print_order(services.database, order_id)


@order.command("reconcile")
@ini_argument
@click.option(
    "--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Day of the bills. Default: yesterday."
)
@json_option
def reconcile_command(ini: Path, *, day: datetime | None) -> None:
    """Compare the orders of a day with the bills of the payment providers.

    Days are in China Standard Time. The command exits with 1 if there is a difference, or if a bill
    cannot be read. Run it daily after 10:00 China Standard Time, when WeChat provides the bill of
    the previous day.

    Example: livebackend order reconcile production.ini --date 2026-11-25
    """
    date = day.date() if day else (datetime.now(CHINA) - timedelta(days=1)).date()
    reports: list[BillReport] = []
    unread_bills: dict[str, str] = {}
    with opened_services(ini) as services:
        for provider in services.payment_orders.providers:
            try:
                reports.append(
                    compare_bill(services.database, services.payment_orders, provider, date)
                )
            except PaymentFailed as error:
                unread_bills[provider] = str(error)
    lines = [line for report in reports for line in _report_lines(report)]
    lines += [
        f"{name} {date}: the bill cannot be read: {error}" for name, error in unread_bills.items()
    ]
    print_and_exit(
        "\n".join(lines) or "payments.gateway names no payment gateway",
        passed=not unread_bills and not any(report.differences for report in reports),
        reports=[asdict(report) for report in reports],
        unread=unread_bills,
    )


def _report_lines(report: BillReport) -> list[str]:
    summary_line = (
        f"{report.provider} {report.day}: {report.payments} payments of {report.paid_fen} fen,"
        f" {report.refunds} refunds of {report.refunded_fen} fen,"
        f" {len(report.differences)} differences"
    )
    return [summary_line, *map(_with_advice, report.differences)]


def _with_advice(difference: str) -> str:
    if difference.endswith(NOT_CREDITED):
        return f"{difference}: run `livebackend order settle`"
    return difference


@contextmanager
def _report_order_errors(order_id: str) -> Iterator[None]:
    """End the command with one error message if an operation on the order fails."""
    try:
        yield
    except PaymentRejected as error:
        raise CommandFailed(f"order {order_id}: {error_outcome(error).detail.message}") from None
    except (LookupError, RefundRefused) as error:
        raise CommandFailed(f"order {order_id}: {error}") from None
    except PaymentFailed as error:
        raise CommandFailed(f"order {order_id}: the provider failed: {error}") from None
    except ServiceUnavailable as error:
        raise CommandFailed(
            f"order {order_id}: change not confirmed, run the command again: {error}"
        ) from None


def _print_order(database: Database, order_id: str) -> None:
    order_row = database.run(lambda connection: find_order(connection, order_id))
    if order_row is None:
        raise CommandFailed(f"there is no order {order_id}")
    facts = _order_facts(order_row)
    print_result(
        align_columns([(name, value) for name, value in facts.items() if value is not None]),
        **facts,
    )


def _order_facts(order_row: StoredOrder) -> dict[str, Any]:
    return order_row._asdict() | {"phone": mask_phone(order_row.phone) if order_row.phone else None}
