"""What every provider of streams promises, tried on all four, over HTTP but for the embedded."""

import json
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
    ProviderAway,
    Stream,
    StreamExists,
    StreamFailed,
    StreamGateway,
)
from tests.support.api import at_once
from tests.support.fake_providers import (
    HUB,
    FakeNginx,
    FakePiliV1,
    FakePiliV2,
    FakeStream,
    Provider,
)
from tests.support.fake_server import WAYS_TO_FAIL, closed_port, running
from tests.support.settings import REQUIRED_SETTINGS, UNSAFE_SETTINGS
from tests.support.streams import STREAM_FIELDS, STREAM_HOSTS, provider_settings

KEY, PUBLISH_KEY = "586f00dd5e77b017852a1a7e", "96aaffaee4505e6d"
FAKES = {PiliV1: FakePiliV1, PiliV2: FakePiliV2, NginxRtmpStreams: FakeNginx}


@dataclass
class Case:
    """A gateway, and whoever stands behind it."""

    gateway: StreamGateway
    provider: Any


def gateway(kind: Any, url: str) -> Any:
    return kind.from_settings(
        Settings.load({**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **provider_settings(url)}, {})
    )


@pytest.fixture(params=[DevelopmentStreams, *FAKES], ids=lambda kind: kind.__name__)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    if request.param is DevelopmentStreams:
        embedded = gateway(DevelopmentStreams, "")
        yield Case(embedded, embedded)
        return
    provider = FAKES[request.param]()
    with running(provider.server) as server:
        yield Case(gateway(request.param, server.url), provider)


@pytest.fixture(params=FAKES, ids=lambda kind: kind.__name__)
def remote(request: pytest.FixtureRequest) -> Iterator[Case]:
    """One that is called over HTTP."""
    provider = FAKES[request.param]()
    with running(provider.server) as server:
        yield Case(gateway(request.param, server.url), provider)


def make(case: Case, key: str = KEY) -> Stream:
    return case.gateway.create(key, PUBLISH_KEY)


def test_each_is_a_gateway(case: Case) -> None:
    assert isinstance(case.gateway, StreamGateway)


def test_a_stream_has_every_key_of_the_documents_example(case: Case) -> None:
    document = make(case).document
    assert {key: type(value) for key, value in document.items()} == STREAM_FIELDS
    assert {name: set(hosts) for name, hosts in document["hosts"].items()} == STREAM_HOSTS
    assert all(isinstance(host, str) for hosts in document["hosts"].values() for host in hosts)
    assert json.loads(json.dumps(document)) == document


def test_a_stream_is_named_by_its_key(case: Case) -> None:
    document = make(case).document
    assert document["title"] == KEY
    assert document["id"] == f"z1.{document['hub']}.{KEY}"
    assert document["publishKey"] == PUBLISH_KEY
    assert document["disabled"] is False


def test_it_is_watched_by_urls_without_a_secret(case: Case) -> None:
    urls = make(case).play_urls
    assert urls.keys() == {"rtmp", "hls", "hdl"}
    assert urls["rtmp"]
    assert urls["rtmp"].endswith(f"/{HUB}/{KEY}")
    assert urls["hls"]
    assert urls["hls"].endswith(f"/{HUB}/{KEY}.m3u8")
    assert not any(PUBLISH_KEY in str(url) for url in urls.values())


def test_it_is_published_by_a_url_with_the_key(case: Case) -> None:
    document = make(case).document
    host = document["hosts"]["publish"]["rtmp"]
    url = case.gateway.publish_url(document)
    assert url == f"rtmp://{host}/{HUB}/{KEY}?key={PUBLISH_KEY}"


def test_who_publishes_is_on_air_until_he_hangs_up(case: Case) -> None:
    make(case)
    case.provider.go_live(KEY)
    assert list(case.gateway.on_air([KEY])) == [KEY]
    case.provider.hang_up(KEY)
    assert case.gateway.on_air([KEY]) == {}
    case.provider.go_live(KEY)
    assert list(case.gateway.on_air([KEY])) == [KEY]


def test_one_stream_is_told_from_another(case: Case) -> None:
    keys = [f"{KEY}{n}" for n in range(100)]
    for key in keys[:3]:
        make(case, key)
        case.provider.go_live(key)
    case.provider.hang_up(keys[1])
    found = case.gateway.on_air([keys[2], keys[1], keys[0]])
    assert set(found) == {keys[0], keys[2]}


def test_a_hundred_are_asked_for_in_one_call(remote: Case) -> None:
    keys = [f"{KEY}{n}" for n in range(100)]
    make(remote, keys[7])
    remote.provider.go_live(keys[7])
    before = len(remote.provider.server.asked)
    assert list(remote.gateway.on_air(keys)) == [keys[7]]
    assert len(remote.provider.server.asked) == before + 1


def test_who_is_disabled_is_off_for_good(case: Case) -> None:
    make(case)
    case.provider.go_live(KEY)
    case.gateway.disable(KEY)
    assert case.gateway.on_air([KEY]) == {}
    case.gateway.disable(KEY)


def test_disabling_what_is_no_more_is_done_already(case: Case) -> None:
    case.gateway.disable(KEY)
    assert case.gateway.on_air([KEY]) == {}


def test_a_stream_that_was_made_is_known(case: Case) -> None:
    make(case)
    assert case.gateway.knows(KEY)


def test_a_stream_that_the_provider_forgot_can_be_made_again(case: Case) -> None:
    if isinstance(case.gateway, NginxRtmpStreams):
        pytest.skip("it has nothing to forget: its streams are our rooms")
    first = make(case)
    case.provider.forget(KEY)
    assert not case.gateway.knows(KEY)
    again = make(case)
    assert (again.document["title"], again.document["publishKey"]) == (KEY, PUBLISH_KEY)
    assert again.play_urls == first.play_urls
    assert case.gateway.knows(KEY)


def in_time(call: Callable[[], object]) -> StreamFailed:
    """The failure of a call, within 4 s and a little."""
    start = time.monotonic()
    with pytest.raises(StreamFailed) as caught:
        call()
    assert time.monotonic() - start < 4.5
    return caught.value


@pytest.mark.parametrize("told", ["fail", "time_out"])
def test_the_embedded_one_fails_when_told_to(told: str) -> None:
    streams = gateway(DevelopmentStreams, "")
    getattr(streams, told)()
    for call in (streams.knows, streams.disable, lambda key: streams.on_air([key])):
        in_time(lambda call=call: call(KEY))  # type: ignore[misc]
    in_time(lambda: streams.create(KEY, PUBLISH_KEY))
    streams.recover()
    assert streams.create(KEY, PUBLISH_KEY).document["title"] == KEY


@pytest.mark.parametrize("kind", FAKES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("fault", WAYS_TO_FAIL)
def test_every_fault_is_a_failure_within_4_s(
    fault: str, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    provider = FAKES[kind]()
    with running(provider.server) as server:
        server.fault = fault
        url = f"http://127.0.0.1:{closed_port()}" if fault == "refused" else server.url
        streams = gateway(kind, url)
        # Nobody is held to be off the air because his provider is.
        (error,), _ = at_once(
            lambda: [in_time(lambda: streams.create(KEY, PUBLISH_KEY))],
            lambda: [in_time(lambda: streams.on_air([KEY]))],
        )
        creates = [asked for asked in server.asked if asked.path.endswith("/streams")]
    assert len(creates) == (0 if fault == "refused" or kind is NginxRtmpStreams else 1)
    if fault in ("refused", "read timeout", "1 byte/s", "500", "503", "truncated", "100 MB"):
        assert isinstance(error, ProviderAway)
    if fault == "401" and kind is not NginxRtmpStreams:
        assert isinstance(error, NotAuthorized)
        assert "CRITICAL" in caplog.text
    assert PUBLISH_KEY not in caplog.text + str(error)


@pytest.mark.parametrize("kind", [PiliV1, PiliV2], ids=lambda kind: kind.__name__)
class TestPili:
    def provider(self, kind: Any) -> Provider:
        return FAKES[kind]()

    def test_a_wrong_hub_is_a_failure(self, kind: Any) -> None:
        provider = self.provider(kind)
        provider.other_hub = "another"
        with running(provider.server) as server:
            in_time(lambda: gateway(kind, server.url).create(KEY, PUBLISH_KEY))

    def test_a_name_that_is_taken_has_a_failure_of_its_own(self, kind: Any) -> None:
        provider = self.provider(kind)
        with running(provider.server) as server:
            streams = gateway(kind, server.url)
            streams.create(KEY, PUBLISH_KEY)
            assert type(in_time(lambda: streams.create(KEY, PUBLISH_KEY))) is StreamExists

    def test_a_wrong_secret_key_is_refused(self, kind: Any) -> None:
        provider = self.provider(kind)
        with running(provider.server) as server:
            changed = {
                **REQUIRED_SETTINGS,
                **provider_settings(server.url),
                "qiniu.secret_key": "other",
            }
            streams = kind.from_settings(Settings.load(changed, {}))
            assert type(in_time(lambda: streams.create(KEY, PUBLISH_KEY))) is NotAuthorized
        assert provider.changes == []

    def test_a_create_is_sent_once(self, kind: Any) -> None:
        provider = self.provider(kind)
        with running(provider.server) as server:
            server.fault = "cut off"
            in_time(lambda: gateway(kind, server.url).create(KEY, PUBLISH_KEY))
            assert len(server.asked) == 1

    def test_its_request_id_is_logged(self, kind: Any, caplog: pytest.LogCaptureFixture) -> None:
        with running(self.provider(kind).server) as server:
            gateway(kind, server.url).create(KEY, PUBLISH_KEY)
        assert "X-Reqid fake-1" in caplog.text

    @pytest.mark.parametrize("name", ["qiniu.access_key", "qiniu.secret_key"])
    def test_without_keys_it_is_not_made(self, name: str, kind: Any) -> None:
        with pytest.raises(ValueError, match=rf"it needs {name}"):
            kind.from_settings(
                Settings.load({**REQUIRED_SETTINGS, **provider_settings("u"), name: ""}, {})
            )

    def test_a_dead_provider_is_left_alone_for_a_while(self, kind: Any) -> None:
        with running(self.provider(kind).server) as server:
            server.fault = "cut off"
            streams = gateway(kind, server.url)
            for _ in range(6):
                in_time(lambda: streams.create(KEY, PUBLISH_KEY))
            assert len(server.asked) == 3


class TestPiliV1:
    @pytest.mark.parametrize("kind", ["none", "expiry", "expiry_sk", "dynamic"])
    def test_the_hubs_own_security_makes_the_publish_url(self, kind: str) -> None:
        provider = FakePiliV1(security=kind)
        with running(provider.server) as server:
            streams = gateway(PiliV1, server.url)
            document = streams.create(KEY, PUBLISH_KEY).document
            assert document["publishSecurity"] == kind
            url = streams.publish_url(document)
        assert url.startswith(f"rtmp://pili-publish.mrpyq.com/{HUB}/{KEY}")
        assert ("token=" in url) is (kind != "none")

    def test_an_unknown_security_is_a_failure(self) -> None:
        provider = FakePiliV1(security="magic")
        with running(provider.server) as server:
            in_time(lambda: gateway(PiliV1, server.url).create(KEY, PUBLISH_KEY))

    def test_a_reply_of_2015_lacks_hosts(self) -> None:
        provider = FakePiliV1()
        whole = provider.document

        def older(key: str) -> dict[str, Any]:
            document = whole(key)
            del document["expireAt"], document["nonce"], document["hosts"]["play"]
            document["hosts"]["live"] = {"rtmp": "r.example", "http": "h.example"}
            return document

        provider.document = older  # type: ignore[method-assign]
        with running(provider.server) as server:
            stream = gateway(PiliV1, server.url).create(KEY, PUBLISH_KEY)
        assert {key: type(value) for key, value in stream.document.items()} == STREAM_FIELDS
        assert {
            name: set(hosts) for name, hosts in stream.document["hosts"].items()
        } == STREAM_HOSTS
        assert stream.play_urls == {
            "rtmp": f"rtmp://r.example/{HUB}/{KEY}",
            "hls": f"http://h.example/{HUB}/{KEY}.m3u8",
            "hdl": None,
        }


class TestPiliV2:
    def test_disabling_what_it_forgot_makes_it_first(self) -> None:
        """A publish URL that is still good would make the stream by being used."""
        provider = FakePiliV2()
        with running(provider.server) as server:
            streams = gateway(PiliV2, server.url)
            streams.create(KEY, PUBLISH_KEY)
            provider.forget(KEY)
            streams.disable(KEY)
            provider.go_live(KEY)
            assert streams.on_air([KEY]) == {}

    def test_when_it_was_made_is_told_in_the_documents_way(self) -> None:
        with running(FakePiliV2().server) as server:
            document = gateway(PiliV2, server.url).create(KEY, PUBLISH_KEY).document
        assert document["createdAt"] == "2017-01-06T10:28:45.000+08:00"
        assert document["expireAt"] == "2017-01-21T10:28:45.000000+08:00"

    def test_without_domains_it_is_not_made(self) -> None:
        changed = {
            **REQUIRED_SETTINGS,
            **provider_settings("u"),
            "streams.hls_host": "",
            "streams.rtmp_host": "",
        }
        with pytest.raises(ValueError, match=r"it needs streams.rtmp_host, streams.hls_host"):
            PiliV2.from_settings(Settings.load(changed, {}))


class TestNginxRtmpStreams:
    def test_a_publisher_has_the_number_of_his_connection(self) -> None:
        nginx = FakeNginx()
        with running(nginx.server) as server:
            nginx.go_live(KEY)
            assert gateway(NginxRtmpStreams, server.url).on_air([KEY, "abc"]) == {KEY: "7"}

    def test_a_server_that_drops_nobody_although_one_is_there_has_failed(self) -> None:
        """After a reload the new worker knows nobody of the old one's."""
        nginx = FakeNginx()
        with running(nginx.server) as server:
            nginx.go_live(KEY)
            nginx.streams = _Sticky(nginx.streams)
            with pytest.raises(StreamFailed, match="drops nobody"):
                gateway(NginxRtmpStreams, server.url).disable(KEY)

    def test_whoever_is_connected_and_sends_nothing_is_not_on_air(self) -> None:
        nginx = FakeNginx()
        with running(nginx.server) as server:
            nginx.streams[KEY] = FakeStream(on_air=False)
            streams = gateway(NginxRtmpStreams, server.url)
            assert streams.on_air([KEY]) == {}
            streams.disable(KEY)
        assert nginx.streams == {}

    def test_statistics_that_could_grow_are_not_read(self) -> None:
        nginx = FakeNginx()
        nginx.stat = lambda: '<!DOCTYPE x [<!ENTITY a "b">]><rtmp/>'  # type: ignore[method-assign]
        with running(nginx.server) as server:
            in_time(lambda: gateway(NginxRtmpStreams, server.url).on_air([KEY]))


class _Sticky(dict[str, Any]):
    def pop(self, *given: object) -> None:
        return None


def test_an_embedded_stream_that_is_disabled_takes_no_publisher() -> None:
    streams = gateway(DevelopmentStreams, "")
    streams.disable(KEY)
    with pytest.raises(NoSuchStream):
        streams.go_live(KEY)
