"""`livebackend user …`: show and change one account."""

import re
import secrets
from pathlib import Path
from typing import Any

import click

from livebackend.cli.ini_file import ini_argument, opened_services
from livebackend.cli.output import CommandFailed, align_columns, json_option, print_result
from livebackend.container import Services
from livebackend.services import operator_accounts as accounts
from livebackend.services.operator_accounts import AccountDetails

# Characters of new passwords. 0, o, 1, i and l are excluded, because they are easily confused when
# a password is read out.
_PASSWORD_LETTERS, _PASSWORD_DIGITS = "abcdefghjkmnpqrstuvwxyz", "23456789"
_MAX_WARNING_LENGTH = 200
_GENDER_NAMES = {"0": "female", "1": "male"}


def _check_user_id(context: click.Context, option: click.Parameter, value: str) -> str:
    if not re.fullmatch("[0-9]{11}|u_[0-9a-f]{20}", value):
        raise click.BadParameter(
            "must be a phone number of eleven digits, or a public ID: u_ and 20 hexadecimal digits"
        )
    return value


def _check_warning(context: click.Context, option: click.Parameter, value: str) -> str:
    if not 0 < len(value) <= _MAX_WARNING_LENGTH or not value.isprintable():
        raise click.BadParameter(
            f"must have 1 to {_MAX_WARNING_LENGTH} characters, and no control characters"
        )
    return value


_user_id_argument = click.argument("user_id", metavar="USER", callback=_check_user_id)


@click.group()
def user() -> None:
    """Show and change one account.

    USER is the phone number or the public ID of the account.

    Example: livebackend user show production.ini 13812345678
    """


@user.command()
@ini_argument
@_user_id_argument
@json_option
def show(ini: Path, user_id: str) -> None:
    """Show an account.

    The phone number is not masked.

    Example: livebackend user show production.ini 13812345678
    """
    with opened_services(ini, needs_gateways=False) as services:
        account = _find_account(services, user_id)
    facts = account._asdict() | {"gender": _GENDER_NAMES.get(account.gender or "")}
    print_result(
        align_columns([(name.replace("_", " "), value) for name, value in facts.items()]), **facts
    )


@user.command()
@ini_argument
@_user_id_argument
@json_option
def disable(ini: Path, user_id: str) -> None:
    """Disable an account.

    The command revokes the user's login tokens, closes their room, and ends their connections for
    live events. The user cannot log in.

    Example: livebackend user disable production.ini 13812345678
    """
    with opened_services(ini, needs_gateways=False) as services:
        account = _find_account(services, user_id)
        changed = services.database.run(
            lambda connection: accounts.disable(connection, services.outbox, account)
        )
        # The account is disabled before its room is closed, so that the user cannot open another.
        closed_room = services.rooms.close_for_operator(account.id)
    _print_state(account.id, "disabled", changed=changed, closed_room=closed_room)


@user.command()
@ini_argument
@_user_id_argument
@click.argument("text", callback=_check_warning)
@json_option
def warn(ini: Path, user_id: str, text: str) -> None:
    """Send a warning to a user as a live event.

    The user receives TEXT, of up to 200 characters, if their app is connected.

    Example: livebackend user warn production.ini 13812345678 "No advertising, please"
    """
    with opened_services(ini, needs_gateways=False) as services:
        if not services.outbox.enabled:
            raise CommandFailed("live events are disabled: set events.gateway")
        account = _find_account(services, user_id)
        services.database.run(
            lambda connection: accounts.warn(connection, services.outbox, account, text)
        )
    print_result(f"account {account.id} is warned", id=account.id)


@user.command()
@ini_argument
@_user_id_argument
@json_option
def enable(ini: Path, user_id: str) -> None:
    """Enable a disabled account.

    The user can log in again. Revoked login tokens stay revoked.

    Example: livebackend user enable production.ini 13812345678
    """
    with opened_services(ini, needs_gateways=False) as services:
        account = _find_account(services, user_id)
        changed = services.database.run(
            lambda connection: accounts.enable(connection, account.phone)
        )
    _print_state(account.id, "enabled", changed=changed)


@user.command()
@ini_argument
@_user_id_argument
@json_option
def revoke(ini: Path, user_id: str) -> None:
    """Revoke all login tokens of an account.

    The password does not change. The connections for live events end.

    Example: livebackend user revoke production.ini 13812345678
    """
    with opened_services(ini, needs_gateways=False) as services:
        account = _find_account(services, user_id)
        services.database.run(
            lambda connection: accounts.revoke(connection, services.outbox, account)
        )
    print_result(f"all login tokens of account {account.id} are revoked", id=account.id)


@user.command("reset-password")
@ini_argument
@_user_id_argument
@json_option
def reset_password(ini: Path, user_id: str) -> None:
    """Set a random new password, and print it.

    The login tokens of the account are revoked.

    Example: livebackend user reset-password production.ini 13812345678
    """
    password = new_password()
    with opened_services(ini, needs_gateways=False) as services:
        account = _find_account(services, user_id)
        password_hash = services.password_hashing.hash(password)
        services.database.run(
            lambda connection: accounts.set_password(
                connection, services.outbox, account, password_hash
            )
        )
    print_result(
        f"new password of account {account.id}: {password}\n"
        "Send it to the user confidentially. They should change it at once.",
        id=account.id,
        password=password,
    )


def new_password() -> str:
    """Return a random password with 60 bits of entropy that is easy to read out."""
    letter_groups = ["".join(secrets.choice(_PASSWORD_LETTERS) for _ in range(4)) for _ in range(3)]
    return "-".join([*letter_groups, "".join(secrets.choice(_PASSWORD_DIGITS) for _ in range(2))])


def _print_state(account_id: int, state: str, *, changed: bool, **more_facts: Any) -> None:
    text = f"account {account_id} is {'' if changed else 'already '}{state}"
    print_result(text, id=account_id, changed=changed, **more_facts)


def _find_account(services: Services, user_id: str) -> AccountDetails:
    account = services.database.run(
        lambda connection: accounts.find_account_details(connection, user_id)
    )
    if account is None:
        raise CommandFailed("no account has this phone number or public ID")
    return account
