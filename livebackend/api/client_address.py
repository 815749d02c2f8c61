"""The client's address, with the operator's proxies taken into account."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from livebackend.api.request import Request

_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]+)?")
_HOPS_MAX = 20
_OF_PROXIES = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")
_ONE_SITE = 64  # bits of an IPv6 address: whoever has one address has all that share these


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
