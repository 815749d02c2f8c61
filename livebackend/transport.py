"""What holds for every request and reply: an id, where it came from, the headers for safety."""

import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from pyramid.config import Configurator
from pyramid.tweens import EXCVIEW

from livebackend.logs import request_id
from livebackend.request import Request
from livebackend.results import NotACall, Reason
from livebackend.routes import HOOK

Handler = Callable[[Request], Any]

_REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,64}")
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]+)?")
_HOPS_MAX = 20
_OF_PROXIES = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")
_ONE_SITE = 64  # bits of an IPv6 address: whoever has one address has all that share these
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class Peers:
    """Tells who speaks, behind proxies of ours whose headers are to be believed."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted

    def address(self, request: Request) -> str:
        """Whom limits count a call for: the nearest address that is no proxy of ours.

        An IPv6 address stands for its /64.
        """
        address = _address(request.remote_addr or "")
        # As many as we look at; behind our own proxies are few.
        hops = request.headers.get("X-Forwarded-For", "").rsplit(",", _HOPS_MAX)
        # From the right: what stands further left than a stranger's address, the stranger wrote.
        while hops and self._is_trusted(address):
            hop = _address(hops.pop().strip())
            if hop is None:
                break
            address = hop
        if isinstance(address, IPv6Address):
            return str(IPv6Network((address, _ONE_SITE), strict=False))
        return str(address or "nowhere")

    def is_proxied(self, request: Request) -> bool:
        """Whether the request came through a proxy of ours."""
        return self._is_trusted(_address(request.remote_addr or ""))

    def is_here(self, request: Request) -> bool:
        """Whether the request was made on this machine, and came through nobody's proxy."""
        address = _address(request.remote_addr or "")
        forwarded = any(header in request.headers for header in _OF_PROXIES)
        return bool(address and address.is_loopback) and not forwarded

    def _is_trusted(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


# The same few speak again and again, our proxies most of all.
@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address; a port behind it, which some proxies write, is left out."""
    host = _WITH_PORT.fullmatch(text)
    try:
        found = ip_address(host[1] or host[2] if host else text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def every_request(handler: Handler, registry: Any) -> Handler:
    """A tween around everything: the request's id in log and reply, the headers for safety."""

    def tween(request: Request) -> Any:
        asked_for = request.headers.get("X-Request-Id", "")
        keep = registry.peers.is_proxied(request) and _REQUEST_ID.fullmatch(asked_for)
        name = asked_for if keep else os.urandom(16).hex()
        token = request_id.set(name)
        try:
            response = handler(request)
        finally:
            request_id.reset(token)
        response.headers["X-Request-Id"] = name
        for header, value in _HEADERS.items():
            response.headers.setdefault(header, value)
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
        if registry.peers.is_proxied(request) and _came_by_https(request):
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    return tween


def https_only(handler: Handler, registry: Any) -> Handler:
    """A tween that refuses what a proxy of ours got, or may have got, without encryption."""

    def tween(request: Request) -> Any:
        # A media server on the proxy's own machine calls us directly.
        is_hook = request.environ["PATH_INFO"] == HOOK and registry.peers.is_here(request)
        if registry.peers.is_proxied(request) and not _came_by_https(request) and not is_hook:
            raise NotACall(400, "scheme", Reason.NOT_HTTPS)
        return handler(request)

    return tween


def _came_by_https(request: Request) -> bool:
    scheme: str = request.headers.get("X-Forwarded-Proto", "")
    return scheme.strip().lower() == "https"


def includeme(config: Configurator) -> None:
    config.add_tween("livebackend.transport.every_request", over=EXCVIEW)
    # Under the views of exceptions, so that it is refused in the API's own words.
    config.add_tween("livebackend.transport.https_only", under=EXCVIEW)
