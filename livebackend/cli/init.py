"""`livebackend init`: the configuration files of a new production server."""

import secrets
from importlib.resources import files
from pathlib import Path

import click

from livebackend.cli.output import CommandFailed, json_option, print_result

_ENVIRONMENT_TEMPLATE = """\
# Read by systemd (EnvironmentFile=), by compose (env_file:), and in a shell by
#   set -a; . ./livebackend.env; set +a
# A value in single quotes has the same meaning for all of them.
# These secrets give full control of the server: restrict access to this file, and store no copy of
# it with backups of the database.

LIVEBACKEND_DATABASE_URL="postgresql+psycopg2://livebackend@/livebackend"
# Secrets of tokens and codes, separated by blanks: the first secret signs, all secrets verify.
LIVEBACKEND_SECRETS="{secret}"
# Secret in every password hash. Never change this secret: all passwords would stop working.
LIVEBACKEND_PASSWORDS_PEPPER="{pepper}"

# From Qiniu's console: the id of the SMS template that contains the code, and a pair of keys.
LIVEBACKEND_SMS_TEMPLATE=
LIVEBACKEND_QINIU_ACCESS_KEY=
LIVEBACKEND_QINIU_SECRET_KEY=
# Dotted name of the stream gateway class; see docs/streaming.md.
LIVEBACKEND_STREAMS_GATEWAY=
"""
_NEXT_STEPS = """\
{ini}: the settings, without secrets
{environment}: new secrets; store a copy of the pepper apart from backups of the database

Next:
  1. Fill in the empty values in {environment}, and set http.trusted_proxies in {ini}.
  2. set -a; . {environment}; set +a
  3. livebackend migrate {ini}
  4. livebackend doctor {ini}
docs/operations.md describes the other steps: reverse proxy, system service, backups."""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--url", default="https://live.example", show_default=True, help="Public URL of the server."
)
@click.option(
    "--data-dir", default="/var/lib/livebackend", show_default=True, help="Folder of the pictures."
)
@json_option
def init(folder: Path, url: str, data_dir: str) -> None:
    """Create the configuration files of a server.

    The files are production.ini, and livebackend.env with new secrets. Existing files are not
    overwritten.

    Example: livebackend init /etc/livebackend --url https://live.example
    """
    ini, environment = folder / "production.ini", folder / "livebackend.env"
    existing_files = [str(path) for path in (ini, environment) if path.exists()]
    if existing_files:
        raise CommandFailed(
            "existing files are not overwritten: move them or choose another folder:"
            f" {', '.join(existing_files)}",
            existing=existing_files,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _create_file(ini, _ini_text(url=url, data_dir=data_dir), mode=0o644)
        _create_file(environment, _environment_text(), mode=0o600)
    except OSError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}") from None
    print_result(
        _NEXT_STEPS.format(ini=ini, environment=environment),
        ini=str(ini),
        environment=str(environment),
    )


def _ini_text(*, url: str, data_dir: str) -> str:
    text = files("livebackend").joinpath("production.ini").read_text("utf-8")
    lines = f"\ndata.dir = {data_dir}\nhttp.public_url = {url}\n"
    return text.replace("\ndata.dir = /var/lib/livebackend\n", lines)


def _environment_text() -> str:
    return _ENVIRONMENT_TEMPLATE.format(
        secret=secrets.token_urlsafe(32), pepper=secrets.token_urlsafe(32)
    )


def _create_file(path: Path, text: str, *, mode: int) -> None:
    # The file is created with its final mode, so that no other user can ever read the secrets.
    path.touch(mode=mode, exist_ok=False)
    path.write_text(text, "utf-8")
