"""Starts nginx with deploy/nginx-site.conf, and connects clients to it."""

import subprocess
from typing import Any

from requests.adapters import HTTPAdapter

from tests.support.machine import Machine

HOST = "live.example"


def start_nginx(machine: Machine, upstream: str, *replacements: tuple[str, str]) -> None:
    """Replace each (old, new) pair of texts in nginx-site.conf, and start nginx."""
    site_config = (machine.checkout / "deploy/nginx-site.conf").read_text()
    for old_text, new_text in replacements:
        assert site_config.count(old_text) == 1
        site_config = site_config.replace(old_text, new_text)
    config_folder = machine.root / "etc/nginx"
    (config_folder / "conf.d/livebackend.conf").write_text(site_config)
    (config_folder / "livebackend-upstream.conf").write_text(upstream)
    subprocess.run([machine.programs / "nginx"], check=True)


class HostAdapter(HTTPAdapter):
    """HTTP adapter that connects to the URL's address and verifies HOST's certificate."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, assert_hostname=HOST, server_hostname=HOST)
