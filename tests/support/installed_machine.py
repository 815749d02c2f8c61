"""A `Machine` with installed and configured servers behind nginx, for tests of restarts."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livebackend.development.embedded_postgres import EmbeddedPostgres
from tests.support.machine import ROOT, Machine, fill_in_settings, machine
from tests.support.nginx import start_nginx

# Permits more requests from one address than nginx-site.conf does.
NGINX_LIMITS = (
    ("rate=50r/s", "rate=9000r/s"),
    ("burst=100", "burst=9000"),
    ("livebackend_connections 50;", "livebackend_connections 20000;"),
)
TWO_SERVERS = (ROOT / "deploy/nginx-upstream.conf").read_text()
# docs/operations.md describes this state of the upstream file.
ONE_SERVER = TWO_SERVERS.replace("6553 max_fails=0;", "6553 max_fails=0 down; # spare")


class InstalledMachine:
    """Servers with the settings, units and scripts that docs/operations.md installs."""

    def __init__(self, test_machine: Machine, postgres: EmbeddedPostgres) -> None:
        self.machine = test_machine
        self.root = test_machine.root
        self.ports = test_machine.ports
        self._environment = test_machine.environment(postgres)
        self._install(postgres)

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.ports['443']}"

    @property
    def certificate(self) -> Path:
        return self.root / "etc/livebackend/tls/fullchain.pem"

    @property
    def upstream_file(self) -> Path:
        return self.root / "etc/nginx/livebackend-upstream.conf"

    def run(self, command: str, timeout_s: int = 240) -> subprocess.CompletedProcess[str]:
        """Run a command of docs/operations.md with the paths and ports of this machine."""
        with self.start(command) as process:
            try:
                output, errors = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a command without waiting for its end."""
        return subprocess.Popen(
            ["bash", "-c", self.machine.relocate(command)],
            cwd=self.machine.checkout,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def check(self, command: str) -> str:
        """Run a command that must succeed; return its output."""
        completed = self.run(command)
        assert completed.returncode == 0, (command, completed.stdout, completed.stderr)
        return completed.stdout

    def write_upstream(self, text: str) -> None:
        self.upstream_file.write_text(self.machine.relocate(text))

    def enabled_servers(self) -> set[str]:
        """Return the documented ports of the servers that start when the machine boots."""
        return {
            name
            for name in ("6543", "6553")
            if (self.root / f"run/livebackend@{self.ports[name]}.enabled").exists()
        }

    def server_pid(self, port: str) -> int | None:
        """Return the process id of the server on a documented port."""
        file = self.root / f"run/livebackend@{self.ports[port]}.pid"
        return int(file.read_text()) if file.exists() else None

    def _install(self, postgres: EmbeddedPostgres) -> None:
        install_programs(self.machine)
        self.check("/opt/livebackend/bin/livebackend init /etc/livebackend")
        fill_in_settings(self.machine, postgres)
        with (self.root / "etc/livebackend/livebackend.env").open("a") as file:
            file.write('LIVEBACKEND_HTTP_TRUSTED_PROXIES="127.0.0.1 ::1"\n')
            file.write("LIVEBACKEND_SERVER_WORKERS=1\nLIVEBACKEND_LIMITS_GIFTS=\n")
        self.check(
            "set -a; . /etc/livebackend/livebackend.env; "
            "/opt/livebackend/bin/livebackend migrate /etc/livebackend/production.ini"
        )


def install_programs(machine: Machine) -> None:
    """Install the program, the script for restarts, and the units."""
    program = machine.root / "opt/livebackend/bin/livebackend"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m livebackend.cli "$@"\n')
    program.chmod(0o755)
    shutil.copy(machine.checkout / "deploy/restart", program.parent / "livebackend-restart")
    for unit in (machine.checkout / "deploy/systemd").iterdir():
        shutil.copy(unit, machine.root / "etc/systemd/system")


@contextmanager
def installed_machine(
    root: Path, postgres: EmbeddedPostgres, *, upstream: str = TWO_SERVERS
) -> Iterator[InstalledMachine]:
    """Install the servers, and run nginx. `systemctl enable --now` starts the servers."""
    with machine(root) as test_machine:
        installed = InstalledMachine(test_machine, postgres)
        start_nginx(test_machine, test_machine.relocate(upstream), *NGINX_LIMITS)
        yield installed
