"""nginx with deploy/nginx-site.conf in front of servers that a fake systemctl runs."""

import os
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.client import Endpoint
from tests.chaos.server import ready_status, settings
from tests.chaos.site import Site
from tests.support.machine import Machine, machine
from tests.support.nginx import start_nginx
from tests.support.waiting import wait_until

_READY_TIMEOUT_S = 60
# Connections of nginx: the idle ones, and those of the load.
_WORKER_CONNECTIONS = 16_384


@contextmanager
def proxied_servers(site: Site, *, server_count: int) -> Iterator[tuple[Machine, Endpoint]]:
    """Run nginx and systemd units as docs/operations.md describes; yield the address of nginx."""
    site.stop_server()
    if not Path("/usr/sbin/nginx").exists():
        raise FileNotFoundError("nginx is missing: apt install nginx openssl curl")
    folder = site.folder.parent / f"{site.folder.name.replace(' ', '-')}-machine"
    folder.mkdir()
    try:
        folder.chmod(0o755)
        with machine(folder) as test_machine:
            ports = [test_machine.ports[name] for name in ("6543", "6553")][:server_count]
            _install(test_machine, settings(site.postgres.url))
            for port in ports:
                systemctl(test_machine, "start", f"livebackend@{port}")
            wait_until(
                lambda: all(ready_status(port) == 200 for port in ports * 4),
                _READY_TIMEOUT_S,
                "the servers to be ready",
            )
            start_nginx(test_machine, _upstream(test_machine, ports))
            yield test_machine, Endpoint(test_machine.ports["443"], _tls(test_machine))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def systemctl(test_machine: Machine, *arguments: str) -> None:
    subprocess.run([test_machine.programs / "systemctl", *arguments], check=True, timeout=60)


def run_script(test_machine: Machine, name: str, *arguments: str) -> None:
    """Run a script of deploy/ in the environment of the machine. Raises if it fails."""
    completed = subprocess.run(
        ["sh", test_machine.checkout / "deploy" / name, *arguments],
        env=os.environ | {"PATH": f"{test_machine.programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert completed.returncode == 0, f"deploy/{name}: {completed.stdout}{completed.stderr}"


def _upstream(test_machine: Machine, ports: Sequence[int]) -> str:
    """Return deploy/nginx-upstream.conf; servers on other ports are a spare, which does not run."""
    text = (test_machine.checkout / "deploy/nginx-upstream.conf").read_text()
    lines = [
        line.replace("max_fails=0;", "max_fails=0 down; # spare")
        if line.startswith("server ") and not any(f":{port} " in line for port in ports)
        else line
        for line in text.splitlines()
    ]
    return "\n".join(lines) + "\n"


def _install(test_machine: Machine, server_settings: dict[str, str]) -> None:
    """Install the program, the unit files, the settings and nginx.conf."""
    program = test_machine.root / "opt/livebackend/bin/livebackend"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m livebackend.cli "$@"\n')
    program.chmod(0o755)
    units = test_machine.checkout / "deploy/systemd"
    shutil.copytree(units, test_machine.root / "etc/systemd/system", dirs_exist_ok=True)
    shutil.copy(test_machine.checkout / "production.ini", test_machine.root / "etc/livebackend")
    values = server_settings | {
        "passwords.cost": "4",
        "http.trusted_proxies": "127.0.0.1",
        "http.public_url": "https://live.example",
    }
    lines = [
        f'LIVEBACKEND_{name.upper().replace(".", "_")}="{value}"' for name, value in values.items()
    ]
    (test_machine.root / "etc/livebackend/livebackend.env").write_text("\n".join(lines) + "\n")
    nginx_conf = test_machine.root / "etc/nginx/nginx.conf"
    nginx_conf.write_text(
        nginx_conf.read_text().replace(
            "worker_connections 1024;", f"worker_connections {_WORKER_CONNECTIONS};"
        )
    )


def _tls(test_machine: Machine) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=str(test_machine.root / "etc/livebackend/tls/fullchain.pem")
    )
    context.check_hostname = False  # the clients connect to an address, not to a name
    return context
