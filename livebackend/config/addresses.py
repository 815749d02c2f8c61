"""Validation of URLs, host names and ports in settings."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

MAX_PORT = 65_535
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_SCHEMES = ("http", "https")


def check_http_url(url: str) -> str:
    """Return the URL; raise ValueError unless it is an http or https URL with a valid host."""
    _split_http_url(url)
    return url


def check_public_url(url: str) -> str:
    """Return the URL; raise ValueError unless clients can use it as the URL of this server."""
    host = _split_http_url(url).hostname or ""
    if _is_wildcard(host):
        raise ValueError(
            f"{host} is no address that clients can connect to; set http.public_url to the URL"
            " under which clients reach this server"
        )
    return url


def check_address(address: str) -> str:
    """Return an address such as 127.0.0.1:6544 or [::1]:6544, or ""; raise ValueError."""
    if address:
        host, separator, port = address.rpartition(":")
        if not separator or (":" in host and not re.fullmatch(r"\[[0-9a-fA-F:.]+\]", host)):
            raise ValueError("is not an address such as 127.0.0.1:6544")
        check_host(host.strip("[]"))
        parse_port(port)
    return address


def is_loopback_address(address: str) -> bool:
    """Return whether an address such as 127.0.0.1:6545 is one of this machine only."""
    try:
        return ip_address(_host_of(address)).is_loopback
    except ValueError:
        return False


def is_wildcard_address(address: str) -> bool:
    """Return whether an address such as 0.0.0.0:6545 stands for all of this machine."""
    return _is_wildcard(_host_of(address))


def check_host_and_port(value: str) -> str:
    """Return a host name with an optional port, or ""; raise ValueError."""
    host, separator, port = value.partition(":")
    if value:
        check_host(host)
    if separator:
        parse_port(port)
    return value


def check_host(host: str) -> str:
    """Return a host name or IP address; raise ValueError if it is neither."""
    if not host.isascii():
        raise ValueError(f"write the host name {host!r} in punycode (xn--…)")
    if not _HOST_NAME.fullmatch(host) or _is_numeric(host):
        try:
            ip_address(host)
        except ValueError:
            raise ValueError(f"{host!r} is not a host name or an IP address") from None
    return host


def parse_port(text: str) -> int:
    """Return the port; raise ValueError unless it is a number from 1 to 65535."""
    if not re.fullmatch("[0-9]{1,6}", text, re.ASCII) or not 1 <= int(text) <= MAX_PORT:
        raise ValueError(f"{text!r} is not a port from 1 to {MAX_PORT}")
    return int(text)


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _split_http_url(url: str) -> SplitResult:
    # The messages do not contain the URL, which can contain a password.
    if re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise ValueError("must not contain blanks, control characters or backslashes")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or a password")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError("must not contain a query or a fragment")
    check_host(parts.hostname or "")
    _, separator, port = parts.netloc.rpartition("]")[2].partition(":")
    if separator:
        parse_port(port)
    return parts


def _is_numeric(host: str) -> bool:
    """Return whether clients parse the host as an IPv4 address: 0, 0x7f.1 and 999.1.1.1 are."""
    last_label = host.removesuffix(".").rpartition(".")[2]
    return re.fullmatch("[0-9]+|0[xX][0-9a-fA-F]*", last_label) is not None


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
