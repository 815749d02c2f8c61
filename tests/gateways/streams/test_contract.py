"""Contract of the stream gateways: tests that all four implementations must pass."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from livebackend.config.settings import Settings
from livebackend.development.streams import DevelopmentStreams
from livebackend.gateways.streams import (
    NginxRtmpStreams,
    NoSuchStream,
    NotAuthorized,
    PiliV1,
    PiliV2,
    ProviderUnavailable,
    Stream,
    StreamExists,
    StreamFailed,
    StreamGateway,
    StreamReference,
    stream_reference,
)
from tests.support.api import run_concurrently
from tests.support.fake_providers import (
    ACCESS_KEY,
    HUB,
    FakeNginxRtmp,
    FakePiliV1,
    FakePiliV2,
    FakeStream,
    FakeStreamProvider,
    json_response,
)
from tests.support.fake_server import FAILURE_MODES, FakeServer, running_fake_server
from tests.support.servers import free_port
from tests.support.settings import REQUIRED_SETTINGS, UNSAFE_SETTINGS
from tests.support.streams import STREAM_FIELDS, STREAM_HOSTS, provider_settings

# No test calls a provider at this URL.
UNUSED_URL = "http://127.0.0.1:1"
KEY, PUBLISH_KEY = "586f00dd5e77b017852a1a7e", "96aaffaee4505e6d"
STREAM = StreamReference(KEY)
FAKE_PROVIDERS = {PiliV1: FakePiliV1, PiliV2: FakePiliV2, NginxRtmpStreams: FakeNginxRtmp}


@dataclass
class Case:
    """A stream gateway and its simulated provider."""

    gateway: StreamGateway
    provider: Any


def new_gateway(gateway_class: Any, url: str) -> Any:
    return gateway_class.from_settings(
        Settings.load({**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **provider_settings(url)}, {})
    )


@pytest.fixture(
    params=[DevelopmentStreams, *FAKE_PROVIDERS], ids=lambda gateway_class: gateway_class.__name__
)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    if request.param is DevelopmentStreams:
        development_gateway = new_gateway(DevelopmentStreams, UNUSED_URL)
        yield Case(development_gateway, development_gateway)
        return
    provider = FAKE_PROVIDERS[request.param]()
    with running_fake_server(provider.server) as server:
        yield Case(new_gateway(request.param, server.url), provider)


@pytest.fixture(params=FAKE_PROVIDERS, ids=lambda gateway_class: gateway_class.__name__)
def remote_case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """A gateway that calls its provider over HTTP."""
    provider = FAKE_PROVIDERS[request.param]()
    with running_fake_server(provider.server) as server:
        yield Case(new_gateway(request.param, server.url), provider)


def create_stream(case: Case, key: str = KEY) -> Stream:
    return case.gateway.create(key, PUBLISH_KEY)


def test_gateway_implements_the_stream_gateway_protocol(case: Case) -> None:
    assert isinstance(case.gateway, StreamGateway)


def test_stream_has_every_key_of_the_example_in_the_api_document(case: Case) -> None:
    document = create_stream(case).document
    assert {key: type(value) for key, value in document.items()} == STREAM_FIELDS
    assert {name: set(hosts) for name, hosts in document["hosts"].items()} == STREAM_HOSTS
    assert all(isinstance(host, str) for hosts in document["hosts"].values() for host in hosts)
    assert json.loads(json.dumps(document)) == document


def test_title_and_id_of_a_stream_contain_its_key(case: Case) -> None:
    document = create_stream(case).document
    assert document["title"] == KEY
    assert document["id"] == f"z1.{document['hub']}.{KEY}"
    assert document["publishKey"] == PUBLISH_KEY
    assert document["disabled"] is False


def test_play_urls_do_not_contain_the_publish_key(case: Case) -> None:
    urls = create_stream(case).play_urls
    assert urls.keys() == {"rtmp", "hls", "hdl"}
    assert urls["rtmp"]
    assert urls["rtmp"].endswith(f"/{HUB}/{KEY}")
    assert urls["hls"]
    assert urls["hls"].endswith(f"/{HUB}/{KEY}.m3u8")
    assert not any(PUBLISH_KEY in str(url) for url in urls.values())


def test_publish_url_contains_the_publish_key_or_a_signature_of_the_account(case: Case) -> None:
    document = create_stream(case).document
    host = document["hosts"]["publish"]["rtmp"]
    base, _, query = case.gateway.publish_url(document).partition("?")
    assert base == f"rtmp://{host}/{HUB}/{KEY}"
    if isinstance(case.gateway, PiliV2):
        assert re.fullmatch(rf"e=[0-9]+&token={ACCESS_KEY}:[\w-]{{27}}=", query)
    else:
        assert query == f"key={PUBLISH_KEY}"


def test_stream_is_live_while_the_host_publishes(case: Case) -> None:
    create_stream(case)
    case.provider.start_publishing(KEY)
    assert list(case.gateway.live_publishers([STREAM])) == [KEY]
    case.provider.stop_publishing(KEY)
    assert case.gateway.live_publishers([STREAM]) == {}
    case.provider.start_publishing(KEY)
    assert list(case.gateway.live_publishers([STREAM])) == [KEY]


def test_only_the_published_streams_are_live(case: Case) -> None:
    keys = [f"{KEY}{n}" for n in range(100)]
    for key in keys[:3]:
        create_stream(case, key)
        case.provider.start_publishing(key)
    case.provider.stop_publishing(keys[1])
    live_publishers = case.gateway.live_publishers([StreamReference(keys[n]) for n in (2, 1, 0)])
    assert set(live_publishers) == {keys[0], keys[2]}


def test_100_streams_are_queried_in_one_request(remote_case: Case) -> None:
    keys = [f"{KEY}{n}" for n in range(100)]
    create_stream(remote_case, keys[7])
    remote_case.provider.start_publishing(keys[7])
    requests_before = len(remote_case.provider.server.received_requests)
    assert list(remote_case.gateway.live_publishers(list(map(StreamReference, keys)))) == [keys[7]]
    assert len(remote_case.provider.server.received_requests) == requests_before + 1


def test_disabled_stream_is_no_longer_live(case: Case) -> None:
    create_stream(case)
    case.provider.start_publishing(KEY)
    case.gateway.disable(STREAM)
    assert case.gateway.live_publishers([STREAM]) == {}
    case.gateway.disable(STREAM)


def test_disabling_a_stream_that_does_not_exist_succeeds(case: Case) -> None:
    case.gateway.disable(STREAM)
    assert case.gateway.live_publishers([STREAM]) == {}


def test_created_stream_exists(case: Case) -> None:
    create_stream(case)
    assert case.gateway.exists(STREAM)


def test_stream_deleted_by_the_provider_can_be_created_again(case: Case) -> None:
    if isinstance(case.gateway, NginxRtmpStreams):
        pytest.skip("nginx stores no streams that it could delete")
    first_stream = create_stream(case)
    case.provider.drop_stream(KEY)
    assert not case.gateway.exists(STREAM)
    recreated_stream = create_stream(case)
    assert (recreated_stream.document["title"], recreated_stream.document["publishKey"]) == (
        KEY,
        PUBLISH_KEY,
    )
    assert recreated_stream.play_urls == first_stream.play_urls
    assert case.gateway.exists(STREAM)


def failure_within_4_s(provider_call: Callable[[], object]) -> StreamFailed:
    """Return the StreamFailed that a call raises within 4 s (tolerance: 0.5 s)."""
    start = time.monotonic()
    with pytest.raises(StreamFailed) as error_info:
        provider_call()
    assert time.monotonic() - start < 4.5
    return error_info.value


@pytest.mark.parametrize("failing_method", ["reject_calls", "time_out"])
def test_development_gateway_fails_until_it_recovers(failing_method: str) -> None:
    streams = new_gateway(DevelopmentStreams, UNUSED_URL)
    getattr(streams, failing_method)()
    for call_with_stream in (
        streams.exists,
        streams.disable,
        lambda stream: streams.live_publishers([stream]),
    ):
        failure_within_4_s(lambda call=call_with_stream: call(STREAM))  # type: ignore[misc]
    failure_within_4_s(lambda: streams.create(KEY, PUBLISH_KEY))
    streams.recover()
    assert streams.create(KEY, PUBLISH_KEY).document["title"] == KEY


@pytest.mark.parametrize(
    "gateway_class", FAKE_PROVIDERS, ids=lambda gateway_class: gateway_class.__name__
)
@pytest.mark.parametrize("failure_mode", FAILURE_MODES)
def test_every_provider_failure_raises_stream_failed_within_4_s(
    failure_mode: str, gateway_class: Any, caplog: pytest.LogCaptureFixture
) -> None:
    provider = FAKE_PROVIDERS[gateway_class]()
    with running_fake_server(provider.server) as server:
        server.failure_mode = failure_mode
        url = f"http://127.0.0.1:{free_port()}" if failure_mode == "refused" else server.url
        streams = new_gateway(gateway_class, url)
        # `live_publishers` must fail as well, and not report the stream as offline.
        (error,), _ = run_concurrently(
            lambda: [failure_within_4_s(lambda: streams.create(KEY, PUBLISH_KEY))],
            lambda: [failure_within_4_s(lambda: streams.live_publishers([STREAM]))],
        )
        create_requests = [
            request for request in server.received_requests if request.path.endswith("/streams")
        ]
    assert len(create_requests) == (
        0 if failure_mode == "refused" or gateway_class is NginxRtmpStreams else 1
    )
    if failure_mode in ("refused", "read timeout", "1 byte/s", "500", "503", "truncated", "100 MB"):
        assert isinstance(error, ProviderUnavailable)
    if failure_mode == "401" and gateway_class is not NginxRtmpStreams:
        assert isinstance(error, NotAuthorized)
        assert "CRITICAL" in caplog.text
    assert PUBLISH_KEY not in caplog.text + str(error)


@pytest.mark.parametrize(
    "gateway_class", [PiliV1, PiliV2], ids=lambda gateway_class: gateway_class.__name__
)
class TestPili:
    def provider(self, gateway_class: Any) -> FakeStreamProvider:
        return FAKE_PROVIDERS[gateway_class]()

    def test_wrong_hub_raises_stream_failed(self, gateway_class: Any) -> None:
        provider = self.provider(gateway_class)
        provider.reported_hub = "another"
        with running_fake_server(provider.server) as server:
            failure_within_4_s(
                lambda: new_gateway(gateway_class, server.url).create(KEY, PUBLISH_KEY)
            )

    def test_existing_stream_name_raises_stream_exists(self, gateway_class: Any) -> None:
        provider = self.provider(gateway_class)
        with running_fake_server(provider.server) as server:
            streams = new_gateway(gateway_class, server.url)
            streams.create(KEY, PUBLISH_KEY)
            assert (
                type(failure_within_4_s(lambda: streams.create(KEY, PUBLISH_KEY))) is StreamExists
            )

    def test_wrong_secret_key_raises_not_authorized(self, gateway_class: Any) -> None:
        provider = self.provider(gateway_class)
        with running_fake_server(provider.server) as server:
            settings = {
                **REQUIRED_SETTINGS,
                **provider_settings(server.url),
                "qiniu.secret_key": "other",
            }
            streams = gateway_class.from_settings(Settings.load(settings, {}))
            assert (
                type(failure_within_4_s(lambda: streams.create(KEY, PUBLISH_KEY))) is NotAuthorized
            )
        assert provider.changes == []

    def test_failed_create_is_not_retried(self, gateway_class: Any) -> None:
        provider = self.provider(gateway_class)
        with running_fake_server(provider.server) as server:
            server.failure_mode = "cut off"
            failure_within_4_s(
                lambda: new_gateway(gateway_class, server.url).create(KEY, PUBLISH_KEY)
            )
            assert len(server.received_requests) == 1

    def test_request_id_of_the_provider_is_logged(
        self, gateway_class: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with running_fake_server(self.provider(gateway_class).server) as server:
            new_gateway(gateway_class, server.url).create(KEY, PUBLISH_KEY)
        assert "X-Reqid fake-1" in caplog.text

    @pytest.mark.parametrize("name", ["qiniu.access_key", "qiniu.secret_key"])
    def test_missing_key_is_a_settings_error(self, name: str, gateway_class: Any) -> None:
        with pytest.raises(ValueError, match=rf"required settings are empty: {name}"):
            gateway_class.from_settings(
                Settings.load({**REQUIRED_SETTINGS, **provider_settings(UNUSED_URL), name: ""}, {})
            )

    def test_provider_gets_no_request_after_three_consecutive_failures(
        self, gateway_class: Any
    ) -> None:
        with running_fake_server(self.provider(gateway_class).server) as server:
            server.failure_mode = "cut off"
            streams = new_gateway(gateway_class, server.url)
            for _ in range(6):
                failure_within_4_s(lambda: streams.create(KEY, PUBLISH_KEY))
            assert len(server.received_requests) == 3


class TestPiliV1:
    @pytest.mark.parametrize("security", ["none", "expiry", "expiry_sk", "dynamic"])
    def test_publish_url_follows_the_security_of_the_hub(self, security: str) -> None:
        provider = FakePiliV1(reported_security=security)
        with running_fake_server(provider.server) as server:
            streams = new_gateway(PiliV1, server.url)
            document = streams.create(KEY, PUBLISH_KEY).document
            assert document["publishSecurity"] == security
            url = streams.publish_url(document)
        assert url.startswith(f"rtmp://pili-publish.mrpyq.com/{HUB}/{KEY}")
        assert ("token=" in url) is (security != "none")

    def test_unknown_publish_security_raises_stream_failed(self) -> None:
        provider = FakePiliV1(reported_security="magic")
        with running_fake_server(provider.server) as server:
            failure_within_4_s(lambda: new_gateway(PiliV1, server.url).create(KEY, PUBLISH_KEY))

    def test_response_of_2015_without_some_hosts_is_accepted(self) -> None:
        provider = FakePiliV1()
        current_document = provider.document

        def old_document(key: str) -> dict[str, Any]:
            document = current_document(key)
            del document["expireAt"], document["nonce"], document["hosts"]["play"]
            document["hosts"]["live"] = {"rtmp": "r.example", "http": "h.example"}
            return document

        provider.document = old_document  # type: ignore[method-assign]
        with running_fake_server(provider.server) as server:
            stream = new_gateway(PiliV1, server.url).create(KEY, PUBLISH_KEY)
        assert {key: type(value) for key, value in stream.document.items()} == STREAM_FIELDS
        assert {
            name: set(hosts) for name, hosts in stream.document["hosts"].items()
        } == STREAM_HOSTS
        assert stream.play_urls == {
            "rtmp": f"rtmp://r.example/{HUB}/{KEY}",
            "hls": f"http://h.example/{HUB}/{KEY}.m3u8",
            "hdl": None,
        }

    def test_stream_in_another_zone_is_queried_and_disabled_with_its_own_id(self) -> None:
        provider = FakePiliV1(zone="z0")
        with running_fake_server(provider.server) as server:
            streams = new_gateway(PiliV1, server.url)
            document_json = streams.create(KEY, PUBLISH_KEY).document_json
            stream = stream_reference(KEY, document_json)
            assert stream == (KEY, f"z0.{HUB}.{KEY}")
            provider.start_publishing(KEY)
            assert streams.exists(stream)
            assert streams.live_publishers([stream]) == {KEY: None}
            streams.disable(stream)
            assert streams.live_publishers([stream]) == {}
        assert provider.streams[KEY].disabled
        assert all(f"z1.{HUB}" not in request.path for request in server.received_requests)

    @pytest.mark.parametrize("stream_id", [None, f"z1.{HUB}.{KEY}"])
    def test_stream_with_an_unknown_id_is_found_by_its_title_and_disabled(
        self, stream_id: str | None
    ) -> None:
        provider = FakePiliV1(zone="z0")
        with running_fake_server(provider.server) as server:
            streams = new_gateway(PiliV1, server.url)
            for key in (KEY, f"{KEY}2"):
                streams.create(key, PUBLISH_KEY)
            streams.disable(StreamReference(KEY, stream_id))
        assert provider.streams[KEY].disabled
        assert not provider.streams[f"{KEY}2"].disabled

    def test_disabling_fails_if_the_listed_stream_is_not_found(self) -> None:
        """Pili lists the stream, but every request with its id gets 404."""
        provider = FakePiliV1(reported_id=f"z9.{HUB}.{KEY}")
        provider.streams[KEY] = FakeStream(PUBLISH_KEY)
        provider.zone = "z0"
        with running_fake_server(provider.server) as server:
            error = failure_within_4_s(lambda: new_gateway(PiliV1, server.url).disable(STREAM))
        assert isinstance(error, NoSuchStream)
        assert not provider.streams[KEY].disabled

    def test_disabling_fails_if_the_hub_does_not_exist(self) -> None:
        with running_fake_server(FakePiliV1().server) as server:
            settings = {**provider_settings(server.url), "streams.hub": "another"}
            streams = PiliV1.from_settings(
                Settings.load({**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **settings}, {})
            )
            failure_within_4_s(lambda: streams.disable(STREAM))

    @pytest.mark.parametrize(
        "stream_id",
        [
            *(f"z1.other.{KEY}", f"z1.{HUB}.other", f"z1.{HUB}.{KEY}2", f"z1x{HUB}.{KEY}"),
            *(f".{HUB}.{KEY}", f"a.b.{HUB}.{KEY}", f"z1/../{HUB}.{KEY}", f"z1.{HUB}.{KEY}\n", "z1"),
        ],
    )
    def test_stream_with_the_id_of_another_hub_or_title_raises_stream_failed(
        self, stream_id: str
    ) -> None:
        provider = FakePiliV1(reported_id=stream_id)
        with running_fake_server(provider.server) as server:
            failure_within_4_s(lambda: new_gateway(PiliV1, server.url).create(KEY, PUBLISH_KEY))

    @pytest.mark.parametrize("text", ["a\0b", "a\nb", 'a"b', "a\\b"])
    def test_stream_with_text_that_cannot_be_stored_raises_stream_failed(self, text: str) -> None:
        provider = FakePiliV1(reported_domain=text)
        with running_fake_server(provider.server) as server:
            failure_within_4_s(lambda: new_gateway(PiliV1, server.url).create(KEY, PUBLISH_KEY))


@pytest.mark.parametrize(("gateway_class", "field"), [(PiliV1, "streamId"), (PiliV2, "key")])
@pytest.mark.parametrize("value", [None, 1, ["x"], {"x": 1}])
def test_entry_without_a_stream_name_counts_as_no_live_stream(
    value: object, gateway_class: Any, field: str
) -> None:
    response = json_response({"items": [{field: value, "status": "connected"}]})
    with running_fake_server(FakeServer(lambda request: response)) as server:
        assert new_gateway(gateway_class, server.url).live_publishers([STREAM]) == {}


class TestPiliV2:
    @pytest.mark.parametrize("expire_at", [253_402_271_999, 253_402_300_799, 10**18])
    def test_expiry_time_after_the_year_9999_is_the_end_of_that_year(self, expire_at: int) -> None:
        provider = FakePiliV2(reported_info={"expireAt": expire_at})
        with running_fake_server(provider.server) as server:
            document = new_gateway(PiliV2, server.url).create(KEY, PUBLISH_KEY).document
        assert document["expireAt"] == "9999-12-31T23:59:59.000000+08:00"

    @pytest.mark.parametrize("time_s", [-1, 1.5, "1", None])
    def test_invalid_time_raises_stream_failed(self, time_s: object) -> None:
        provider = FakePiliV2(reported_info={"createdAt": time_s})
        with running_fake_server(provider.server) as server:
            failure_within_4_s(lambda: new_gateway(PiliV2, server.url).create(KEY, PUBLISH_KEY))

    @pytest.mark.parametrize("security", ["static", "expiry", "dynamic"])
    def test_publish_security_that_needs_the_publish_key_is_a_settings_error(
        self, security: str
    ) -> None:
        settings = {**provider_settings(UNUSED_URL), "streams.publish_security": security}
        with pytest.raises(ValueError, match=f"streams.publish_security: {security} is not supp"):
            PiliV2.from_settings(Settings.load({**REQUIRED_SETTINGS, **settings}, {}))

    def test_disabling_a_deleted_stream_creates_it_first(self) -> None:
        """Otherwise, publishing to a valid publish URL would create an enabled stream."""
        provider = FakePiliV2()
        with running_fake_server(provider.server) as server:
            streams = new_gateway(PiliV2, server.url)
            streams.create(KEY, PUBLISH_KEY)
            provider.drop_stream(KEY)
            streams.disable(STREAM)
            provider.start_publishing(KEY)
            assert streams.live_publishers([STREAM]) == {}

    def test_creation_time_has_the_format_of_the_api_document(self) -> None:
        with running_fake_server(FakePiliV2().server) as server:
            document = new_gateway(PiliV2, server.url).create(KEY, PUBLISH_KEY).document
        assert document["createdAt"] == "2017-01-06T10:28:45.000+08:00"
        assert document["expireAt"] == "2017-01-21T10:28:45.000000+08:00"

    def test_missing_domains_are_a_settings_error(self) -> None:
        settings = {
            **REQUIRED_SETTINGS,
            **provider_settings(UNUSED_URL),
            "streams.hls_host": "",
            "streams.rtmp_host": "",
        }
        with pytest.raises(
            ValueError, match=r"required settings are empty: streams.rtmp_host, streams.hls_host"
        ):
            PiliV2.from_settings(Settings.load(settings, {}))


class TestNginxRtmpStreams:
    def test_live_stream_has_the_connection_id_of_its_publisher(self) -> None:
        nginx = FakeNginxRtmp()
        with running_fake_server(nginx.server) as server:
            nginx.start_publishing(KEY)
            streams = new_gateway(NginxRtmpStreams, server.url)
            live_publishers = streams.live_publishers([STREAM, StreamReference("abc")])
            assert live_publishers == {KEY: "7"}

    def test_disable_fails_if_the_server_does_not_drop_the_publisher(self) -> None:
        """After a reload, the new nginx worker cannot drop publishers of the old worker."""
        nginx = FakeNginxRtmp()
        with running_fake_server(nginx.server) as server:
            nginx.start_publishing(KEY)
            nginx.streams = _UndroppableStreams(nginx.streams)
            with pytest.raises(StreamFailed, match="did not disconnect the publisher"):
                new_gateway(NginxRtmpStreams, server.url).disable(STREAM)

    def test_publisher_that_sends_no_data_is_not_live(self) -> None:
        nginx = FakeNginxRtmp()
        with running_fake_server(nginx.server) as server:
            nginx.streams[KEY] = FakeStream(is_publishing=False)
            streams = new_gateway(NginxRtmpStreams, server.url)
            assert streams.live_publishers([STREAM]) == {}
            streams.disable(STREAM)
        assert nginx.streams == {}

    def test_statistics_with_xml_entities_are_rejected(self) -> None:
        nginx = FakeNginxRtmp()
        nginx.stat = lambda: '<!DOCTYPE x [<!ENTITY a "b">]><rtmp/>'  # type: ignore[method-assign]
        with running_fake_server(nginx.server) as server:
            failure_within_4_s(
                lambda: new_gateway(NginxRtmpStreams, server.url).live_publishers([STREAM])
            )


class _UndroppableStreams(dict[str, Any]):
    def pop(self, *args: object) -> None:
        return None


def test_disabled_development_stream_rejects_a_publisher() -> None:
    streams = new_gateway(DevelopmentStreams, UNUSED_URL)
    streams.disable(STREAM)
    with pytest.raises(NoSuchStream):
        streams.start_publishing(KEY)
