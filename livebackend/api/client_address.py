"""Client address resolver: the client's IP address behind trusted proxies."""

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from livebackend.api.request import Request

_ADDRESS_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]+)?")
_MAX_HOPS = 20
_PROXY_HEADERS = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")
# A WSGI server sets REMOTE_ADDR to one of these values if it listens on a unix socket.
_UNIX_SOCKET_ADDRESSES = ("", "localhost")
# Internet providers assign a /64 network to each customer: rate limits count the network as one
# client.
_IPV6_PREFIX_BITS = 64


class ClientAddressResolver:
    """Finds the client's address behind trusted proxies.

    The trusted proxies send the address of the client in `header`. If `trusts_unix_socket`, a
    request over a unix socket comes from a trusted proxy.
    """

    def __init__(
        self,
        trusted_networks: Sequence[IPv4Network | IPv6Network],
        *,
        trusts_unix_socket: bool = False,
        header: str = "X-Forwarded-For",
    ) -> None:
        self._is_trusted = lru_cache(maxsize=1024)(partial(_is_in_network, tuple(trusted_networks)))
        self._trusts_unix_socket = trusts_unix_socket
        self._header = header
        self._environ_name = f"HTTP_{header.upper().replace('-', '_')}"

    def address(self, request: Request) -> str:
        """Return the nearest address that is not a trusted proxy's, for rate limits.

        An IPv6 address is shortened to its /64 network.
        """
        address: str = request.environ.get("REMOTE_ADDR", "")
        is_trusted = self.is_from_trusted_proxy(request)
        hops = request.environ.get(self._environ_name, "").rsplit(",", _MAX_HOPS)
        # The header is read from right to left, because the client can forge the left entries.
        while hops and is_trusted:
            hop = hops.pop().strip()
            if _parse_address(hop) is None:
                break
            address = hop
            is_trusted = self._is_trusted(hop)
        return _network_of(address)

    def is_from_trusted_proxy(self, request: Request) -> bool:
        """Return whether the request came through a trusted proxy."""
        if self._trusts_unix_socket and is_over_unix_socket(request):
            return True
        return self._is_trusted(request.environ.get("REMOTE_ADDR", ""))

    def is_over_untrusted_unix_socket(self, request: Request) -> bool:
        """Return whether the request came over a unix socket that is not a trusted proxy."""
        return is_over_unix_socket(request) and not self._trusts_unix_socket

    def is_local(self, request: Request) -> bool:
        """Return whether the request came from this machine, without a proxy."""
        address = _parse_address(request.remote_addr or "")
        is_forwarded = any(header in request.headers for header in (*_PROXY_HEADERS, self._header))
        return bool(address and address.is_loopback) and not is_forwarded


def is_over_unix_socket(request: Request) -> bool:
    """Return whether the WSGI server received the request over a unix socket.

    Without REMOTE_ADDR, no server received the request: a test called the application.
    """
    return request.environ.get("REMOTE_ADDR") in _UNIX_SOCKET_ADDRESSES


def _is_in_network(networks: Sequence[IPv4Network | IPv6Network], text: str) -> bool:
    address = _parse_address(text)
    return address is not None and any(address in network for network in networks)


@lru_cache(maxsize=1024)
def _network_of(text: str) -> str:
    address = _parse_address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_PREFIX_BITS), strict=False))
    return str(address or "unknown")


# Addresses are cached, because most requests come from a few addresses, such as those of the
# proxies.
@lru_cache(maxsize=1024)
def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, without the port that some proxies add; None if it is invalid."""
    match = _ADDRESS_WITH_PORT.fullmatch(text)
    try:
        address = ip_address(match[1] or match[2] if match else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
