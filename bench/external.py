"""A server that the user of the benchmark provides: BENCH_BASELINE and BENCH_BASELINE_COMMAND.

It answers the same requests on the same database, for example in another language.
"""

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import make_url

from bench.machine import listening_pids
from bench.servers import Server, free_port, stop, wait_for_port

# Time for the user to start the server.
WAIT_S = 300


def is_external_wanted() -> bool:
    return bool(os.environ.get("BENCH_BASELINE") or os.environ.get("BENCH_BASELINE_COMMAND"))


@contextmanager
def external_server(variables: Mapping[str, str], folder: Path) -> Iterator[Server]:
    """Yield the server once it accepts connections; start and stop it if there is a command.

    The server gets the environment of livebackend, and also PORT and DATABASE_URL.
    """
    port = external_port(os.environ.get("BENCH_BASELINE", ""))
    database_url = make_url(variables["LIVEBACKEND_DATABASE_URL"]).set(drivername="postgresql")
    variables = {
        **variables,
        "PORT": str(port),
        "DATABASE_URL": database_url.render_as_string(hide_password=False),
    }
    process = _start(os.environ.get("BENCH_BASELINE_COMMAND", ""), port, variables, folder)
    try:
        if process is None:
            _print_instructions(port, variables)
        if not wait_for_port(port, process, timeout_s=WAIT_S):
            raise SystemExit(
                f"BENCH_BASELINE: no server accepted connections on port {port}\n{_log(folder)}"
            )
        pids = listening_pids(port)
        if not pids:
            raise SystemExit(
                f"BENCH_BASELINE: the process that listens on port {port} is not visible in /proc;"
                " its CPU time cannot be measured"
            )
        yield Server("external", port, tuple(pids))
    finally:
        if process:
            stop(process)


def external_port(url: str) -> int:
    """Return the port of the URL, or a free one without a URL.

    The database has no TCP port and CPU time is read from /proc, so the server is on this machine.
    """
    if not url:
        return free_port()
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost") or not parts.port:
        raise SystemExit(f"BENCH_BASELINE: {url} is not a URL such as http://127.0.0.1:8080")
    return parts.port


def _start(
    command: str, port: int, variables: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes] | None:
    if not command:
        return None
    arguments = [argument.replace("{port}", str(port)) for argument in shlex.split(command)]
    with (folder / "external.log").open("wb") as log:
        return subprocess.Popen(arguments, env=variables, stdout=log, stderr=log)


def _print_instructions(port: int, variables: Mapping[str, str]) -> None:
    names = ("DATABASE_URL", "PORT", *filter(lambda name: "LIVEBACKEND_" in name, variables))
    settings = "\n".join(
        f"export {name}={shlex.quote(variables[name])}"
        for name in names
        if not name.startswith("LIVEBACKEND_LIMITS_")
    )
    print(
        f"Start your server on http://127.0.0.1:{port} now; the benchmark waits up to"
        f" {WAIT_S} s. Its database and secrets:\n{settings}",
        flush=True,
    )


def _log(folder: Path) -> str:
    log = folder / "external.log"
    return log.read_text() if log.exists() else ""
