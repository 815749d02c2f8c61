"""`livebackend init`: the two files that a production server begins with."""

import secrets
from importlib.resources import files
from pathlib import Path

import click

from livebackend.cli.output import Fault, json_option, say

_ENVIRONMENT = """\
# Read by systemd (EnvironmentFile=), by compose (env_file:), and in a shell by
#   set -a; . ./livebackend.env; set +a
# Whoever reads this file is the server: keep it from others, and out of backups of the database.

LIVEBACKEND_DATABASE_URL="postgresql+psycopg2://livebackend@/livebackend"
# The first signs, all verify, with a blank between them.
LIVEBACKEND_SECRETS="{secret}"
# Never changed: a lost one ends all passwords.
LIVEBACKEND_PASSWORDS_PEPPER="{pepper}"

# From Qiniu's console: the id of a text with the code in it, and a pair of keys.
LIVEBACKEND_SMS_TEMPLATE=
LIVEBACKEND_QINIU_ACCESS_KEY=
LIVEBACKEND_QINIU_SECRET_KEY=
# Who makes the streams: a class, by its dotted name.
LIVEBACKEND_STREAMS_GATEWAY=
"""
_NEXT = """\
{ini}: the settings, as they may be read by anybody
{environment}: the secrets, fresh; keep a copy of the pepper where no backup of the database is

Next:
  1. Fill in what is empty in {environment}, and set http.trusted_proxies in {ini}.
  2. set -a; . {environment}; set +a
  3. livebackend migrate {ini}
  4. livebackend doctor {ini}
docs/operations.md has the rest: the proxy in front, the service, backups."""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--url", default="https://live.example", help="The address by which users reach the server."
)
@click.option("--var-dir", default="/var/lib/livebackend", help="Where pictures are kept.")
@json_option
def init(folder: Path, url: str, var_dir: str) -> None:
    """Write production.ini and livebackend.env, with fresh secrets, into a folder.

    Files that are there stay as they are.

    Example: livebackend init /etc/livebackend --url https://live.example
    """
    ini, environment = folder / "production.ini", folder / "livebackend.env"
    there = [str(path) for path in (ini, environment) if path.exists()]
    if there:
        raise Fault(f"{', '.join(there)}: there already, and never overwritten", there=there)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(ini, _settings(url=url, var_dir=var_dir), mode=0o644)
        _write(environment, _secrets(), mode=0o600)
    except OSError as error:
        raise Fault(f"{error.filename}: {error.strerror}") from None
    say(
        _NEXT.format(ini=ini, environment=environment),
        ini=str(ini),
        environment=str(environment),
    )


def _settings(*, url: str, var_dir: str) -> str:
    text = files("livebackend").joinpath("production.ini").read_text("utf-8")
    own = f"\nvar.dir = {var_dir}\nhttp.url = {url}\n"
    return text.replace("\nvar.dir = /var/lib/livebackend\n", own)


def _secrets() -> str:
    return _ENVIRONMENT.format(secret=secrets.token_urlsafe(32), pepper=secrets.token_urlsafe(32))


def _write(path: Path, text: str, *, mode: int) -> None:
    # Made with its mode, so that nobody reads a secret in between; and never over another's.
    path.touch(mode=mode, exist_ok=False)
    path.write_text(text, "utf-8")
