"""`livebackend user`: one account, shown and changed."""

import re
import secrets
from pathlib import Path
from typing import Any

import click

from livebackend.cli.ini import ini_argument, opened_services
from livebackend.cli.output import Fault, columns, json_option, say
from livebackend.container import Services
from livebackend.services import operator_accounts as accounts
from livebackend.services.operator_accounts import Overview

# Neither 0 and o nor 1, i and l: somebody reads it out on the phone.
_LETTERS, _DIGITS = "abcdefghjkmnpqrstuvwxyz", "23456789"
_GENDERS = {"0": "female", "1": "male"}


def _checked(context: click.Context, option: click.Parameter, value: str) -> str:
    if not re.fullmatch("[0-9]{11}", value):
        raise click.BadParameter("it must have eleven digits")
    return value


_phone = click.argument("phone", callback=_checked)


@click.group()
def user() -> None:
    """Show and change one account, which is named by its phone.

    Example: livebackend user show production.ini 13812345678
    """


@user.command()
@ini_argument
@_phone
@json_option
def show(ini: Path, phone: str) -> None:
    """Show an account, its phone whole.

    Example: livebackend user show production.ini 13812345678
    """
    with opened_services(ini) as services:
        found = _find(services, phone)
    facts = found._asdict() | {"gender": _GENDERS.get(found.gender or "")}
    say(columns([(name.replace("_", " "), value) for name, value in facts.items()]), **facts)


@user.command()
@ini_argument
@_phone
@json_option
def disable(ini: Path, phone: str) -> None:
    """Log an account out everywhere, close its room, and let it log in no more.

    Example: livebackend user disable production.ini 13812345678
    """
    with opened_services(ini) as services:
        found = _find(services, phone)
        changed = services.database.run(lambda connection: accounts.disable(connection, phone))
        # After the tokens, so that it cannot go live again in between.
        if found.room_id:
            services.rooms.leave(found.id, reason="operator")
    _say_now(found.id, "disabled", changed=changed, closed_room=found.room_id)


@user.command()
@ini_argument
@_phone
@json_option
def enable(ini: Path, phone: str) -> None:
    """Let an account log in again that was disabled.

    Example: livebackend user enable production.ini 13812345678
    """
    with opened_services(ini) as services:
        found = _find(services, phone)
        changed = services.database.run(lambda connection: accounts.enable(connection, phone))
    _say_now(found.id, "enabled", changed=changed)


@user.command()
@ini_argument
@_phone
@json_option
def revoke(ini: Path, phone: str) -> None:
    """End every login token of an account; its password stays.

    Example: livebackend user revoke production.ini 13812345678
    """
    with opened_services(ini) as services:
        found = _find(services, phone)
        services.database.run(lambda connection: accounts.revoke(connection, phone))
    say(f"account {found.id} is logged out everywhere", id=found.id)


@user.command("reset-password")
@ini_argument
@_phone
@json_option
def reset_password(ini: Path, phone: str) -> None:
    """Give an account a new password, and print it this once; its login tokens end.

    Example: livebackend user reset-password production.ini 13812345678
    """
    password = new_password()
    with opened_services(ini) as services:
        found = _find(services, phone)
        new_hash = services.password_hashing.hash(password)
        services.database.run(lambda connection: accounts.set_password(connection, phone, new_hash))
    say(
        f"account {found.id} has the new password {password}\n"
        "Hand it on by a way that nobody else reads, to be changed at once.",
        id=found.id,
        password=password,
    )


def new_password() -> str:
    """A password that is easily read out: nearly 60 bits."""
    words = ["".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(3)]
    return "-".join([*words, "".join(secrets.choice(_DIGITS) for _ in range(2))])


def _say_now(account: int, state: str, *, changed: bool, **more: Any) -> None:
    words = f"account {account} is {state}" + ("" if changed else " already")
    say(words, id=account, changed=changed, **more)


def _find(services: Services, phone: str) -> Overview:
    found = services.database.run(lambda connection: accounts.overview(connection, phone))
    if found is None:
        raise Fault("nobody is registered with that phone")
    return found
