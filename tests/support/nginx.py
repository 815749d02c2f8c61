"""Starts nginx with deploy/nginx-site.conf, and connects clients to it."""

import ssl
import subprocess
from pathlib import Path

import httpx

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


def new_http_client(certificate: Path) -> httpx.Client:
    """Return a client that trusts a certificate, which is for HOST."""
    tls = ssl.create_default_context(cafile=certificate)
    return httpx.Client(transport=_HostTransport(verify=tls), trust_env=False)


class _HostTransport(httpx.HTTPTransport):
    """Transport that connects to the URL's address and verifies HOST's certificate."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = HOST
        return super().handle_request(request)
