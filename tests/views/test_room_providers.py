"""Tests of going live with each stream provider, including provider failures."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import requests
from webtest.http import StopableWSGIServer

from livebackend.container import Services
from livebackend.gateways.streams import NginxRtmpStreams, PiliV1, PiliV2
from tests.support.api import ApiClient, ApiResponse, App, UserClient, run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.fake_providers import FakeNginxRtmp, FakePiliV1, FakePiliV2, FakeStreamProvider
from tests.support.fake_server import FAILURE_MODES, running_fake_server
from tests.support.servers import free_port
from tests.support.streams import STREAM_FIELDS, STREAM_HOSTS

FAKE_PROVIDERS: dict[type, Callable[[], FakeStreamProvider]] = {
    PiliV1: FakePiliV1,
    PiliV2: FakePiliV2,
    NginxRtmpStreams: FakeNginxRtmp,
}


@pytest.fixture(params=FAKE_PROVIDERS, ids=lambda gateway_class: gateway_class.__name__)
def gateway_class(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def provider(gateway_class: Any) -> Iterator[FakeStreamProvider]:
    provider = FAKE_PROVIDERS[gateway_class]()
    with running_fake_server(provider.server):
        yield provider


@pytest.fixture
def app(
    gateway_class: Any, provider: FakeStreamProvider, new_provider_app: Callable[..., App]
) -> App:
    return new_provider_app(gateway_class, provider.server.url)


def is_live(user: UserClient, friend: UserClient) -> bool:
    (listed_friend,) = user.friends()
    assert listed_friend["userId"] == friend.phone
    return bool(listed_friend["liveStatus"] == "on")


def test_host_goes_live_publishes_and_leaves_with_each_provider(
    gateway_class: Any,
    provider: FakeStreamProvider,
    ann: UserClient,
    ben: UserClient,
    services: Services,
    database_state: DatabaseState,
) -> None:
    ann.befriend(ben)
    response = ann.go_live(title="hello")
    assert response.result == "0000"
    stream = json.loads(response.message)
    assert {key: type(value) for key, value in stream.items()} == STREAM_FIELDS
    assert {name: set(hosts) for name, hosts in stream["hosts"].items()} == STREAM_HOSTS
    assert ann.go_live().message == response.message
    provider.start_publishing(stream["title"])
    assert services.stream_monitor.check_rooms().closed == 0
    assert is_live(ben, ann)
    assert ann.post("/room", leave="1").result == "0000"
    assert not provider.is_publishing(stream["title"])
    assert not is_live(ben, ann)
    create_changes = [change for change in provider.changes if change.startswith("create")]
    assert len(create_changes) == (0 if gateway_class is NginxRtmpStreams else 1)


def test_twenty_concurrent_go_live_requests_create_one_stream(
    gateway_class: Any, provider: FakeStreamProvider, ann: UserClient
) -> None:
    responses = run_concurrently(*[ann.go_live] * 20)
    assert {response.result for response in responses} == {"0000"}
    assert len({response.message for response in responses}) == 1
    create_requests = [
        request
        for request in provider.server.received_requests
        if request.path.endswith("/streams")
    ]
    assert len(create_requests) == (0 if gateway_class is NginxRtmpStreams else 1)


def test_twenty_concurrent_go_live_requests_send_one_request_to_a_failing_provider(
    gateway_class: Any, provider: FakeStreamProvider, ann: UserClient, database_state: DatabaseState
) -> None:
    provider.server.failure_mode = "500 after a second"
    responses = run_concurrently(*[ann.go_live] * 20)
    assert {response.result for response in responses} == {"0009"}
    assert len(provider.server.received_requests) == len(database_state.rows("rooms")) == 1


@pytest.mark.parametrize("failure_mode", FAILURE_MODES)
def test_go_live_when_the_provider_fails_returns_0009_within_5_s_and_opens_no_room(
    failure_mode: str,
    gateway_class: Any,
    provider: FakeStreamProvider,
    new_provider_app: Callable[..., App],
    database_state: DatabaseState,
) -> None:
    provider.server.failure_mode = failure_mode
    url = f"http://127.0.0.1:{free_port()}" if failure_mode == "refused" else provider.server.url
    api = ApiClient(new_provider_app(gateway_class, url))
    ann, ben = api.register_user("13800000001"), api.register_user("13800000002")
    ann.befriend(ben)
    started_at_s = time.monotonic()
    is_finished = threading.Event()
    list_durations_s: list[float] = []

    def go_live() -> ApiResponse:
        try:
            return ann.go_live()
        finally:
            is_finished.set()

    def list_friends_meanwhile() -> None:
        while not list_durations_s or not (is_finished.is_set() or len(list_durations_s) == 100):
            list_started_at_s = time.monotonic()
            assert not is_live(ben, ann)
            list_durations_s.append(time.monotonic() - list_started_at_s)

    response, _ = run_concurrently(go_live, list_friends_meanwhile)
    assert time.monotonic() - started_at_s < 5
    assert (response.status, response.body) == (200, {"result": "0009", "message": None})
    assert response.error == "stream; reason=upstream_failed"
    (room,) = database_state.rows("rooms")
    assert (room["state"], room["close_reason"]) == ("closed", "failed")
    assert max(list_durations_s) < 1
    assert not is_live(ben, ann)
    # Going live succeeds as soon as the provider responds correctly again.
    provider.server.failure_mode = ""
    if failure_mode != "refused":
        assert ann.go_live().result == "0000"


class TestAnotherZone:
    """The hub is in the zone z0 of Pili v1."""

    @pytest.fixture
    def provider(self) -> Iterator[FakePiliV1]:
        provider = FakePiliV1(zone="z0")
        with running_fake_server(provider.server):
            yield provider

    @pytest.fixture
    def app(self, provider: FakePiliV1, new_provider_app: Callable[..., App]) -> App:
        return new_provider_app(PiliV1, provider.server.url)

    def test_room_is_live_while_the_host_publishes_and_leaving_disables_the_stream(
        self,
        provider: FakePiliV1,
        ann: UserClient,
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        stream = json.loads(ann.go_live().message)
        assert stream["id"] == f"z0.mrpyq.{stream['title']}"
        provider.start_publishing(stream["title"])
        assert services.stream_monitor.check_rooms().checked == 1
        assert database_state.rows("rooms")[0]["offline_since"] is None
        assert ann.post("/room", leave="1").result == "0000"
        assert provider.streams[stream["title"]].disabled
        assert database_state.rows("rooms")[0]["disabled_at"] is not None

    def test_housekeeping_disables_a_stream_whose_id_was_not_stored(
        self,
        provider: FakePiliV1,
        ann: UserClient,
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        """Pili created the stream, but its response was invalid."""
        provider.reported_hub = "another"
        assert ann.go_live().result == "0009"
        (key,) = provider.streams
        assert services.stream_monitor.check_rooms().failed
        assert database_state.rows("rooms")[0]["disabled_at"] is None
        provider.reported_hub = ""
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE rooms SET disable_retry_at = now()")
        assert services.stream_monitor.check_rooms().disabled == 1
        assert provider.streams[key].disabled
        assert database_state.rows("rooms")[0]["disabled_at"] is not None


def test_go_live_with_a_stream_that_expires_in_the_year_9999_succeeds(
    new_provider_app: Callable[..., App], database_state: DatabaseState
) -> None:
    provider = FakePiliV2(reported_info={"expireAt": 253_402_300_799})
    with running_fake_server(provider.server):
        ann = ApiClient(new_provider_app(PiliV2, provider.server.url)).register_user("13800000001")
        response = ann.go_live()
    assert (response.status, response.result) == (200, "0000")


def test_go_live_with_a_wrong_hub_returns_0009(
    gateway_class: Any, provider: FakeStreamProvider, ann: UserClient, database_state: DatabaseState
) -> None:
    if gateway_class is NginxRtmpStreams:
        pytest.skip("nginx: going live sends no request that contains the hub")
    provider.reported_hub = "another"
    assert ann.go_live().result == "0009"
    assert [room["state"] for room in database_state.rows("rooms")] == ["closed"]


@pytest.mark.processes
def test_hanging_provider_does_not_occupy_all_threads(
    provider: FakeStreamProvider, app: App, api: ApiClient, ann: UserClient, ben: UserClient
) -> None:
    """While 16 hosts wait on a server with 8 threads, another user gets a response."""
    hosts = [api.register_user(f"138000001{n:02}") for n in range(16)]
    provider.server.failure_mode = "read timeout"
    server = StopableWSGIServer.create(app, threads=8)
    try:
        post_form = partial(requests.post, timeout=30)

        def go_live(user: UserClient) -> str:
            form = {"live": "1", "token": user.token}
            return str(post_form(f"{server.application_url}room", data=form).json()["result"])

        def measure_friend_list_s() -> float:
            time.sleep(0.3)
            started_at_s = time.monotonic()
            form = {"friendlist": "1", "token": ben.token}
            response = post_form(f"{server.application_url}list", data=form)
            assert response.json()["result"] == "0000"
            return time.monotonic() - started_at_s

        started_at_s = time.monotonic()
        *results, list_duration_s = run_concurrently(
            *[partial(go_live, host) for host in hosts], measure_friend_list_s
        )
        assert results == ["0009"] * 16
        assert list_duration_s < 2
        assert time.monotonic() - started_at_s < 9
        # The circuit breaker is open: further requests fail without waiting.
        started_at_s = time.monotonic()
        assert go_live(ann) == "0009"
        assert time.monotonic() - started_at_s < 1
    finally:
        server.shutdown()


class TestStreamLostByProvider:
    def lose_stream(
        self, gateway_class: Any, provider: FakeStreamProvider, services: Services, host: UserClient
    ) -> Any:
        """Let a host go live, delete the stream at the provider, and return the stream."""
        if gateway_class is NginxRtmpStreams:
            pytest.skip("nginx does not store streams, so it cannot lose one")
        stream = json.loads(host.go_live(title="hello").message)
        provider.drop_stream(stream["title"])
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET stream_seen_at = now() - interval '11 seconds'"
            )
        return stream

    def test_go_live_recreates_a_stream_that_the_provider_lost(
        self,
        gateway_class: Any,
        provider: FakeStreamProvider,
        services: Services,
        ann: UserClient,
        database_state: DatabaseState,
    ) -> None:
        stream = self.lose_stream(gateway_class, provider, services, ann)
        recreated_stream = json.loads(ann.go_live().message)
        assert recreated_stream["title"] == stream["title"]
        assert recreated_stream["publishKey"] == stream["publishKey"]
        assert list(provider.streams) == [stream["title"]]
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["title"]) == ("open", "hello")

    def test_twenty_concurrent_go_live_requests_recreate_a_lost_stream_once(
        self, gateway_class: Any, provider: FakeStreamProvider, services: Services, ann: UserClient
    ) -> None:
        self.lose_stream(gateway_class, provider, services, ann)
        responses = run_concurrently(*[ann.go_live] * 20)
        assert {response.result for response in responses} == {"0000"}
        assert len([change for change in provider.changes if "create" in change]) == 2

    def test_go_live_returns_the_same_stream_when_the_provider_fails(
        self,
        gateway_class: Any,
        provider: FakeStreamProvider,
        services: Services,
        ann: UserClient,
        database_state: DatabaseState,
    ) -> None:
        stream = self.lose_stream(gateway_class, provider, services, ann)
        provider.server.failure_mode = "500"
        assert json.loads(ann.go_live().message) == stream
        assert database_state.rows("rooms")[0]["state"] == "open"

    def test_go_live_checks_an_existing_stream_at_most_every_10_s(
        self, gateway_class: Any, provider: FakeStreamProvider, services: Services, ann: UserClient
    ) -> None:
        if gateway_class is NginxRtmpStreams:
            pytest.skip("nginx: the server does not check an existing stream")
        first_message = ann.go_live().message
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET stream_seen_at = now() - interval '11 seconds'"
            )
        request_count = len(provider.server.received_requests)
        assert ann.go_live().message == first_message
        assert len(provider.server.received_requests) == request_count + 1
        assert ann.go_live().message == first_message
        assert len(provider.server.received_requests) == request_count + 1


class TestHeartbeat:
    def test_heartbeat_returns_the_stream_status_and_the_publish_url(
        self,
        gateway_class: Any,
        provider: FakeStreamProvider,
        services: Services,
        ann: UserClient,
        database_state: DatabaseState,
    ) -> None:
        stream = json.loads(ann.go_live().message)
        response = ann.post("/room", heartbeat="1")
        host, key = stream["hosts"]["publish"]["rtmp"], stream["publishKey"]
        url = f"rtmp://{host}/mrpyq/{stream['title']}"
        assert (response.result, response.message["stream"]) == ("0000", "off")
        query = "e=" if gateway_class is PiliV2 else f"key={key}"
        assert response.message["publishUrl"].startswith(f"{url}?{query}")
        provider.start_publishing(stream["title"])
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET provider_checked_at = now() - interval '3 seconds'"
            )
        assert ann.post("/room", heartbeat="1").message["stream"] == "on"
        assert database_state.rows("rooms")[0]["offline_since"] is None

    def test_heartbeat_does_not_keep_an_offline_room_open(
        self,
        provider: FakeStreamProvider,
        services: Services,
        ann: UserClient,
        database_state: DatabaseState,
    ) -> None:
        ann.go_live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET offline_since = now() - interval '60 seconds'"
            )
        response = ann.post("/room", heartbeat="1")
        assert (response.result, response.error) == ("0009", "room; reason=room_not_open")
        assert database_state.rows("rooms")[0]["close_reason"] == "offline"

    def test_heartbeat_when_not_live_returns_0009(
        self, ann: UserClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert ann.post("/room", heartbeat="1").result == "0009"

    def test_heartbeat_when_the_provider_fails_does_not_change_the_status(
        self, provider: FakeStreamProvider, ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        provider.server.failure_mode = "500"
        rows_before = database_state.rows("rooms")
        assert ann.post("/room", heartbeat="1").message["stream"] == "off"
        (room,) = database_state.rows("rooms")
        assert {**room, "provider_checked_at": None} == {
            **rows_before[0],
            "provider_checked_at": None,
        }


@pytest.mark.parametrize("publish_security", ["none", "expiry_sk"])
def test_heartbeat_publish_url_depends_on_the_publish_security_setting(
    publish_security: str, new_provider_app: Callable[..., App], database_state: DatabaseState
) -> None:
    provider = FakePiliV2()
    with running_fake_server(provider.server):
        app = new_provider_app(
            PiliV2, provider.server.url, streams__publish_security=publish_security
        )
        ann = ApiClient(app).register_user("13800000001")
        stream = json.loads(ann.go_live().message)
        url = ann.post("/room", heartbeat="1").message["publishUrl"]
    assert stream["publishSecurity"] == publish_security
    assert url.startswith(f"rtmp://publish.example:1935/mrpyq/{stream['title']}")
    assert ("token=" in url) is (publish_security != "none")
    assert stream["publishKey"] not in url
