"""The client's address, with the operator's proxies taken into account."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from livebackend.api.request import Request

_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]+)?")
_HOPS_MAX = 20
_OF_PROXIES = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")
_ONE_SITE = 64  # bits of an IPv6 address: a customer gets all addresses that share these


class Peers:
    """Finds the client's address behind trusted proxies."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted

    def address(self, request: Request) -> str:
        """Return the address that rate limits count: the nearest one that is no trusted proxy.

        An IPv6 address is shortened to its /64 network.
        """
        address = _address(request.remote_addr or "")
        hops = request.headers.get("X-Forwarded-For", "").rsplit(",", _HOPS_MAX)
        # From the right: the client itself can have written everything left of its address.
        while hops and self._is_trusted(address):
            hop = _address(hops.pop().strip())
            if hop is None:
                break
            address = hop
        if isinstance(address, IPv6Address):
            return str(IPv6Network((address, _ONE_SITE), strict=False))
        return str(address or "nowhere")

    def is_proxied(self, request: Request) -> bool:
        """Return whether the request came through a trusted proxy."""
        return self._is_trusted(_address(request.remote_addr or ""))

    def is_here(self, request: Request) -> bool:
        """Return whether the request was made on this machine, through no proxy."""
        address = _address(request.remote_addr or "")
        forwarded = any(header in request.headers for header in _OF_PROXIES)
        return bool(address and address.is_loopback) and not forwarded

    def _is_trusted(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


# Most requests come from few addresses, such as those of the proxies.
@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address without the port that some proxies add."""
    host = _WITH_PORT.fullmatch(text)
    try:
        found = ip_address(host[1] or host[2] if host else text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
