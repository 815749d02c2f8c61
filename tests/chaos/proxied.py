"""nginx with deploy/nginx-site.conf in front of servers that a fake systemctl runs."""

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livebackend.config.settings import environment_variable
from tests.chaos.client import Endpoint
from tests.chaos.server import ready_status, settings
from tests.chaos.site import Site
from tests.support.installed_machine import ONE_SERVER, TWO_SERVERS, install_programs
from tests.support.machine import Machine, machine
from tests.support.nginx import start_nginx
from tests.support.waiting import wait_until

_READY_TIMEOUT_S = 60


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
            install_programs(test_machine)
            _write_settings(test_machine, settings(site.postgres.url))
            for port in ports:
                systemctl(test_machine, "start", f"livebackend@{port}")
            wait_until(
                lambda: all(ready_status(port) == 200 for port in ports * 4),
                _READY_TIMEOUT_S,
                "the servers to be ready",
            )
            upstream = ONE_SERVER if server_count == 1 else TWO_SERVERS
            start_nginx(test_machine, test_machine.relocate(upstream))
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


def _write_settings(test_machine: Machine, server_settings: dict[str, str]) -> None:
    shutil.copy(test_machine.checkout / "production.ini", test_machine.root / "etc/livebackend")
    values = server_settings | {
        "passwords.cost": "4",
        "http.trusted_proxies": "127.0.0.1",
        "http.public_url": "https://live.example",
    }
    lines = [f'{environment_variable(name)}="{value}"\n' for name, value in values.items()]
    (test_machine.root / "etc/livebackend/livebackend.env").write_text("".join(lines))


def _tls(test_machine: Machine) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=str(test_machine.root / "etc/livebackend/tls/fullchain.pem")
    )
    context.check_hostname = False  # the clients connect to an address, not to a name
    return context
