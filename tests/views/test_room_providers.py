"""Going live by a provider that is far away, and may do anything."""

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
from tests.support.api import Answer, Api, App, Person, at_once
from tests.support.database_state import DatabaseState
from tests.support.fake_providers import FakeNginx, FakePiliV1, FakePiliV2, Provider
from tests.support.fake_server import WAYS_TO_FAIL, closed_port, running
from tests.support.streams import STREAM_FIELDS, STREAM_HOSTS

FAKES: dict[type, Callable[[], Provider]] = {
    PiliV1: FakePiliV1,
    PiliV2: FakePiliV2,
    NginxRtmpStreams: FakeNginx,
}


@pytest.fixture(params=FAKES, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def provider(kind: Any) -> Iterator[Provider]:
    provider = FAKES[kind]()
    with running(provider.server):
        yield provider


@pytest.fixture
def app(kind: Any, provider: Provider, new_provider_app: Callable[..., App]) -> App:
    return new_provider_app(kind, provider.server.url)


def is_live(person: Person, friend: Person) -> bool:
    (only,) = person.friends()
    assert only["userId"] == friend.phone
    return bool(only["liveStatus"] == "on")


def test_the_whole_way(
    kind: Any,
    provider: Provider,
    ann: Person,
    ben: Person,
    services: Services,
    database_state: DatabaseState,
) -> None:
    ann.befriend(ben)
    answer = ann.live(title="hello")
    assert answer.result == "0000"
    stream = json.loads(answer.message)
    assert {key: type(value) for key, value in stream.items()} == STREAM_FIELDS
    assert {name: set(hosts) for name, hosts in stream["hosts"].items()} == STREAM_HOSTS
    assert ann.live().message == answer.message
    provider.go_live(stream["title"])
    assert services.stream_monitor.sweep().closed == 0
    assert is_live(ben, ann)
    assert ann.post("/room", leave="1").result == "0000"
    assert not provider.is_on_air(stream["title"])
    assert not is_live(ben, ann)
    creates = [change for change in provider.changes if change.startswith("create")]
    assert len(creates) == (0 if kind is NginxRtmpStreams else 1)


def test_twenty_at_once_are_one_call(kind: Any, provider: Provider, ann: Person) -> None:
    answers = at_once(*[ann.live] * 20)
    assert {answer.result for answer in answers} == {"0000"}
    assert len({answer.message for answer in answers}) == 1
    creates = [asked for asked in provider.server.asked if asked.path.endswith("/streams")]
    assert len(creates) == (0 if kind is NginxRtmpStreams else 1)


def test_twenty_at_once_fail_together(
    kind: Any, provider: Provider, ann: Person, database_state: DatabaseState
) -> None:
    provider.server.fault = "500 after a second"
    answers = at_once(*[ann.live] * 20)
    assert {answer.result for answer in answers} == {"0009"}
    assert len(provider.server.asked) == len(database_state.rows("rooms")) == 1


@pytest.mark.parametrize("fault", WAYS_TO_FAIL)
def test_every_fault_is_0009_and_no_room_within_5_s(
    fault: str,
    kind: Any,
    provider: Provider,
    new_provider_app: Callable[..., App],
    database_state: DatabaseState,
) -> None:
    provider.server.fault = fault
    url = f"http://127.0.0.1:{closed_port()}" if fault == "refused" else provider.server.url
    api = Api(new_provider_app(kind, url))
    ann, ben = api.person("13800000001"), api.person("13800000002")
    ann.befriend(ben)
    start = time.monotonic()
    over = threading.Event()
    others: list[float] = []

    def live() -> Answer:
        try:
            return ann.live()
        finally:
            over.set()

    def others_go_on() -> None:
        while not others or not (over.is_set() or len(others) == 100):
            begun = time.monotonic()
            assert not is_live(ben, ann)
            others.append(time.monotonic() - begun)

    answer, _ = at_once(live, others_go_on)
    assert time.monotonic() - start < 5
    assert (answer.status, answer.body) == (200, {"result": "0009", "message": None})
    assert answer.refusal == "stream could not be done outside"
    (room,) = database_state.rows("rooms")
    assert (room["state"], room["close_reason"]) == ("closed", "failed")
    assert max(others) < 1
    assert not is_live(ben, ann)
    # It is none of his business whether the provider is well again.
    provider.server.fault = ""
    if fault != "refused":
        assert ann.live().result == "0000"


def test_a_wrong_hub_is_0009(
    kind: Any, provider: Provider, ann: Person, database_state: DatabaseState
) -> None:
    if kind is NginxRtmpStreams:
        pytest.skip("its hub is an application of nginx's, which is not asked for")
    provider.other_hub = "another"
    assert ann.live().result == "0009"
    assert [room["state"] for room in database_state.rows("rooms")] == ["closed"]


@pytest.mark.processes
def test_a_dead_provider_never_holds_all_threads(
    provider: Provider, app: App, api: Api, ann: Person, ben: Person
) -> None:
    """Sixteen go live at once on a server with eight threads; whoever does not, is served."""
    people = [api.person(f"138000001{n:02}") for n in range(16)]
    provider.server.fault = "read timeout"
    server = StopableWSGIServer.create(app, threads=8)
    try:
        post = partial(requests.post, timeout=30)

        def live(person: Person) -> str:
            form = {"live": "1", "token": person.token}
            return str(post(f"{server.application_url}room", data=form).json()["result"])

        def friends() -> float:
            time.sleep(0.3)
            start = time.monotonic()
            form = {"friendlist": "1", "token": ben.token}
            reply = post(f"{server.application_url}list", data=form)
            assert reply.json()["result"] == "0000"
            return time.monotonic() - start

        start = time.monotonic()
        *results, waited_s = at_once(*[partial(live, person) for person in people], friends)
        assert results == ["0009"] * 16
        assert waited_s < 2
        assert time.monotonic() - start < 9
        # From now on nobody waits for it.
        start = time.monotonic()
        assert live(ann) == "0009"
        assert time.monotonic() - start < 1
    finally:
        server.shutdown()


class TestForgotten:
    def forget(self, kind: Any, provider: Provider, services: Services, person: Person) -> Any:
        """Somebody is live, and his provider has forgotten the stream; its JSON."""
        if kind is NginxRtmpStreams:
            pytest.skip("it has nothing to forget: its streams are our rooms")
        stream = json.loads(person.live(title="hello").message)
        provider.forget(stream["title"])
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET stream_seen_at = now() - interval '11 seconds'"
            )
        return stream

    def test_it_is_made_again_for_who_goes_live_again(
        self,
        kind: Any,
        provider: Provider,
        services: Services,
        ann: Person,
        database_state: DatabaseState,
    ) -> None:
        stream = self.forget(kind, provider, services, ann)
        again = json.loads(ann.live().message)
        assert again["title"] == stream["title"]
        assert again["publishKey"] == stream["publishKey"]
        assert list(provider.streams) == [stream["title"]]
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["title"]) == ("open", "hello")

    def test_twenty_at_once_make_it_again_once(
        self, kind: Any, provider: Provider, services: Services, ann: Person
    ) -> None:
        self.forget(kind, provider, services, ann)
        answers = at_once(*[ann.live] * 20)
        assert {answer.result for answer in answers} == {"0000"}
        assert len([change for change in provider.changes if "create" in change]) == 2

    def test_a_provider_that_is_away_has_forgotten_nothing(
        self,
        kind: Any,
        provider: Provider,
        services: Services,
        ann: Person,
        database_state: DatabaseState,
    ) -> None:
        stream = self.forget(kind, provider, services, ann)
        provider.server.fault = "500"
        assert json.loads(ann.live().message) == stream
        assert database_state.rows("rooms")[0]["state"] == "open"

    def test_one_that_is_still_known_stays_as_it_is(
        self, kind: Any, provider: Provider, services: Services, ann: Person
    ) -> None:
        if kind is NginxRtmpStreams:
            pytest.skip("it is not asked")
        first = ann.live().message
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET stream_seen_at = now() - interval '11 seconds'"
            )
        before = len(provider.server.asked)
        assert ann.live().message == first
        assert len(provider.server.asked) == before + 1
        assert ann.live().message == first
        assert len(provider.server.asked) == before + 1


class TestHeartbeat:
    def test_it_tells_whether_one_is_on_air_and_where_to_publish(
        self,
        kind: Any,
        provider: Provider,
        services: Services,
        ann: Person,
        database_state: DatabaseState,
    ) -> None:
        stream = json.loads(ann.live().message)
        answer = ann.post("/room", heartbeat="1")
        host, key = stream["hosts"]["publish"]["rtmp"], stream["publishKey"]
        url = f"rtmp://{host}/mrpyq/{stream['title']}?key={key}"
        assert answer.body == {"result": "0000", "message": {"stream": "off", "publishUrl": url}}
        provider.go_live(stream["title"])
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET provider_checked_at = now() - interval '3 seconds'"
            )
        assert ann.post("/room", heartbeat="1").message["stream"] == "on"
        assert database_state.rows("rooms")[0]["offline_since"] is None

    def test_a_heartbeat_alone_keeps_no_room_open(
        self, provider: Provider, services: Services, ann: Person, database_state: DatabaseState
    ) -> None:
        ann.live()
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET offline_since = now() - interval '60 seconds'"
            )
        answer = ann.post("/room", heartbeat="1")
        assert (answer.result, answer.refusal) == ("0009", "room is not live")
        assert database_state.rows("rooms")[0]["close_reason"] == "offline"

    def test_who_is_not_live_has_none(self, ann: Person, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            assert ann.post("/room", heartbeat="1").result == "0009"

    def test_a_provider_that_is_away_changes_nothing(
        self, provider: Provider, ann: Person, database_state: DatabaseState
    ) -> None:
        ann.live()
        provider.server.fault = "500"
        before = database_state.rows("rooms")
        assert ann.post("/room", heartbeat="1").message["stream"] == "off"
        (room,) = database_state.rows("rooms")
        assert {**room, "provider_checked_at": None} == {**before[0], "provider_checked_at": None}


@pytest.mark.parametrize("security", ["none", "expiry", "expiry_sk", "dynamic"])
def test_another_security_has_its_url_in_the_heartbeat(
    security: str, new_provider_app: Callable[..., App], database_state: DatabaseState
) -> None:
    provider = FakePiliV2()
    with running(provider.server):
        app = new_provider_app(PiliV2, provider.server.url, streams__publish_security=security)
        ann = Api(app).person("13800000001")
        stream = json.loads(ann.live().message)
        url = ann.post("/room", heartbeat="1").message["publishUrl"]
    assert stream["publishSecurity"] == security
    assert url.startswith(f"rtmp://publish.example:1935/mrpyq/{stream['title']}")
    assert ("token=" in url) is (security != "none")
    assert stream["publishKey"] not in url
