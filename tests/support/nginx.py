"""Starts nginx with deploy/nginx-site.conf, and connects clients to it."""

import subprocess
from typing import Any

from requests.adapters import HTTPAdapter

from tests.support.machine import Machine

HOST = "live.example"


def start_nginx(machine: Machine, upstream: str, *replacements: tuple[str, str]) -> None:
    """Start nginx; `replacements` are (old, new) texts in nginx-site.conf."""
    site = (machine.checkout / "deploy/nginx-site.conf").read_text()
    for old, new in replacements:
        assert site.count(old) == 1
        site = site.replace(old, new)
    conf = machine.root / "etc/nginx"
    (conf / "conf.d/livebackend.conf").write_text(site)
    (conf / "livebackend-upstream.conf").write_text(upstream)
    subprocess.run([machine.programs / "nginx"], check=True)


class HostAdapter(HTTPAdapter):
    """HTTP adapter that connects to the URL's address and verifies HOST's certificate."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, assert_hostname=HOST, server_hostname=HOST)
