"""Validation of URLs, addresses and ports in settings."""

import pytest

from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings, listen_address
from tests.support.settings import REQUIRED_SETTINGS

URL_SETTINGS = ("http.public_url", "sms.api_url", "streams.api_url", "streams.control_url")


@pytest.mark.parametrize("name", URL_SETTINGS)
@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "",
        "x",
        "/path",
        "https:x.example",
        "https://",
        "https:///path",
        "https://:80",
        "https://a b.example",
        "https://a.example/ ",
        "https://a.example\\path",
        "https://a.example\n",
        "https://a.example:99999",
        "https://a.example:0",
        "https://a.example:x",
        "https://a.example:",
        "https://user@a.example",
        "https://user:hidden@a.example",
        "https://a.example?x=1",
        "https://a.example#x",
        "https://[::1",
        "https://[::x]",
        "https://a.example,b.example",
        "http://0:80",
        "http://0x0/",
        "http://0x7f.0x1",
        "http://127.1",
        "http://2130706433",
        "http://999.1.1.1",
        "http://1.2.3.4.:80",
        "https://live.0x",
    ],
)
def test_url_without_scheme_host_or_valid_port_is_refused_by_name(name: str, url: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({**REQUIRED_SETTINGS, name: url}, {})
    (error,) = raised.value.errors
    assert error.startswith(f"{name}: ")
    assert "hidden" not in error


@pytest.mark.parametrize("name", URL_SETTINGS)
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:6543",
        "https://live.example",
        "https://live.example/api/",
        "http://[2001:db8::1]:8081",
        "http://media_server:8081",
        "https://does-not-resolve.invalid:65535",
        "https://xn--fiqs8s.example.",
        "https://1.live.example",
        "https://live.0xample",
        "https://4live",
    ],
)
def test_http_url_is_accepted_without_resolving_its_host(name: str, url: str) -> None:
    Settings.load({**REQUIRED_SETTINGS, name: url}, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[0:0::0]"])
def test_public_url_with_a_wildcard_address_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match=r"http\.public_url: .* clients can connect to"):
        Settings.load({**REQUIRED_SETTINGS, "http.public_url": f"http://{host}:6543"}, {})


def test_host_name_that_is_not_ascii_is_refused_with_a_mention_of_punycode() -> None:
    with pytest.raises(SettingsError, match=r"http\.public_url: write .*直播.* in punycode \(xn--"):
        Settings.load({**REQUIRED_SETTINGS, "http.public_url": "https://直播.example"}, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metrics.address", "0:6544"),
        ("streams.rtmp_host", "999.1.1.1:80"),
        ("metrics.address", "127.0.0.1:99999"),
        ("metrics.address", "127.0.0.1:0"),
        ("metrics.address", "127.0.0.1"),
        ("metrics.address", "a b:6544"),
        ("metrics.address", "::1:6544"),
        ("metrics.address", "[::g]:6544"),
        ("streams.publish_host", "live.example:99999"),
        ("streams.rtmp_host", "live.example:0"),
        ("streams.hls_host", "-:80"),
        ("streams.gateway", ""),
        ("streams.gateway", " "),
        ("sms.gateway", ""),
        ("events.address", "0.0.0.0:6545"),
        ("events.address", "10.0.0.1:6545"),
        ("events.address", "localhost:6545"),
        ("events.address", "127.0.0.1"),
        ("events.address", ""),
        ("events.public_url", "ftp://x"),
        ("events.app_url", "x"),
        ("events.publish_url", ""),
        ("events.publish_secret", "too-short"),
    ],
)
def test_invalid_address_or_empty_gateway_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({**REQUIRED_SETTINGS, name: value}, {})
    (error,) = raised.value.errors
    assert error.startswith(f"{name}: ")


def test_invalid_settings_of_several_kinds_are_refused_in_one_error() -> None:
    invalid = {
        "streams.api_url": "ftp://x",
        "http.public_url": "http://0.0.0.0",
        "metrics.address": "127.0.0.1:99999",
        "sms.gateway": "",
    }
    with pytest.raises(SettingsError) as raised:
        Settings.load({**REQUIRED_SETTINGS, **invalid}, {})
    assert {error.partition(":")[0] for error in raised.value.errors} == invalid.keys()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "live.example"])
def test_host_and_port_of_the_ini_file_are_the_listen_address(host: str) -> None:
    assert listen_address({"host": host, "port": "6543"}) == (host, 6543)


def test_every_error_of_host_and_port_is_reported() -> None:
    with pytest.raises(SettingsError) as raised:
        listen_address({"host": "a b", "port": "99999"})
    assert raised.value.errors == (
        "host: 'a b' is not a host name or an IP address",
        "port: '99999' is not a port from 1 to 65535",
    )
    with pytest.raises(SettingsError) as raised:
        listen_address({})
    assert [error.partition(":")[0] for error in raised.value.errors] == ["host", "port"]


@pytest.mark.parametrize("address", ["127.0.0.1:6545", "127.0.0.2:1", "[::1]:6545"])
def test_event_server_can_listen_on_every_loopback_address(address: str) -> None:
    settings = Settings.load({**REQUIRED_SETTINGS, "events.address": address}, {})
    assert settings.events_address == address


@pytest.mark.parametrize("address", ["0.0.0.0:6545", "10.0.0.1:6545", "[::]:6545"])
def test_event_server_needs_permission_to_listen_for_other_machines(address: str) -> None:
    values = {**REQUIRED_SETTINGS, "events.address": address}
    with pytest.raises(SettingsError, match=r"set server\.allow_direct_clients = true to allow it"):
        Settings.load(values, {})
    settings = Settings.load({**values, "server.allow_direct_clients": "true"}, {})
    assert settings.events_address == address
