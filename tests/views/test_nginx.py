"""What one's own media server asks: who may publish, and what may be watched."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from webtest import TestApp

from livebackend.container import Services
from livebackend.gateways.streams import NginxRtmpStreams
from tests.support.api import App, Person, at_once
from tests.support.database_state import DatabaseState
from tests.support.fake_providers import HUB, FakeNginx
from tests.support.fake_server import running

SECRET = "a-secret-of-the-tests-that-is-long-enough"
HERE = {"REMOTE_ADDR": "127.0.0.1"}


@pytest.fixture
def nginx() -> Iterator[FakeNginx]:
    nginx = FakeNginx()
    with running(nginx.server):
        yield nginx


@pytest.fixture
def app(nginx: FakeNginx, new_provider_app: Callable[..., App]) -> App:
    return new_provider_app(NginxRtmpStreams, nginx.server.url)


def call(app: App, *, secret: str = SECRET, peer: str = "127.0.0.1", **given: Any) -> int:
    headers = given.pop("headers", {})
    hub = given.pop("hub", HUB)
    answer = TestApp(app).post(
        f"/nginx/hook?secret={secret}",
        {"app": hub, "type": "live", "addr": "10.0.0.9", **given},
        headers=headers,
        extra_environ={"REMOTE_ADDR": peer},
        status="*",
    )
    return int(answer.status_int)


@pytest.fixture
def stream(ann: Person) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ann.live().message)
    return found


@pytest.fixture
def publish(app: App, stream: dict[str, Any]) -> Callable[..., int]:
    """Publishes Ann's stream with the right key, but for what is given."""
    given = {"call": "publish", "name": stream["title"], "key": stream["publishKey"]}
    return lambda **changed: call(app, **{**given, "clientid": "1", **changed})


def done(app: App, stream: dict[str, Any], client: str) -> int:
    return call(app, call="publish_done", name=stream["title"], clientid=client)


def settle(services: Services) -> None:
    """The publisher was let in some time ago."""
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE rooms SET published_at = now() - interval '6 seconds'")


class TestPublish:
    def test_the_right_key_is_let_in(
        self, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        assert publish() == 204
        (room,) = database_state.rows("rooms")
        assert (room["publisher"], room["offline_since"]) == ("1", None)
        assert room["published_at"] == room["stream_seen_at"]

    @pytest.mark.parametrize(
        "changed",
        [
            {"key": "0123456789abcdef"},
            {"key": ""},
            {"key": "é"},
            {"key": "\0"},
            {"key": "k" * 1000},
            {"name": "0" * 24},
            {"name": ""},
            {"hub": "another"},
            {"call": "play"},
            {"call": ""},
        ],
    )
    def test_anything_else_is_refused(
        self, changed: dict[str, str], publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            assert publish(**changed) == 403

    def test_a_longer_number_than_nginx_has_is_no_error(self, publish: Callable[..., int]) -> None:
        assert publish(clientid="1" * 150) == 204

    def test_who_has_left_is_refused(
        self, publish: Callable[..., int], ann: Person, database_state: DatabaseState
    ) -> None:
        ann.post("/room", leave="1")
        with database_state.unchanged():
            assert publish() == 403

    def test_a_second_publisher_is_refused_and_does_not_end_the_first(
        self,
        app: App,
        nginx: FakeNginx,
        publish: Callable[..., int],
        stream: dict[str, Any],
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        publish()
        nginx.go_live(stream["title"])
        for settled in (False, True):
            if settled:
                settle(services)
            with database_state.unchanged():
                assert publish(clientid="2") == 403
                # nginx tells of its end, although it was never let in.
                assert done(app, stream, "2") == 204
        services.stream_monitor.sweep()
        assert database_state.rows("rooms")[0]["publisher"] == "7"

    def test_two_at_once_are_one(self, publish: Callable[..., int]) -> None:
        answers = at_once(*[partial(publish, clientid=str(n)) for n in range(8)])
        assert sorted(answers) == [204] + [403] * 7

    def test_who_was_killed_is_followed_by_another(
        self, publish: Callable[..., int], services: Services, database_state: DatabaseState
    ) -> None:
        """Its worker died: nobody told of its end."""
        publish()
        settle(services)
        assert publish(clientid="2") == 204
        assert database_state.rows("rooms")[0]["publisher"] == "2"

    def test_a_media_server_that_does_not_answer_lets_no_second_one_in(
        self,
        nginx: FakeNginx,
        publish: Callable[..., int],
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        publish()
        settle(services)
        nginx.server.fault = "500"
        with database_state.unchanged():
            assert publish(clientid="2") == 403

    def test_the_key_twice_is_refused(
        self, app: App, stream: dict[str, Any], database_state: DatabaseState
    ) -> None:
        body = (
            f"call=publish&app={HUB}&name={stream['title']}&key={stream['publishKey']}&clientid=1"
        )
        for more in ("&key=x", "&name=x", "&call=publish_done", f"&secret={SECRET}"):
            with database_state.unchanged():
                answer = TestApp(app).post(
                    f"/nginx/hook?secret={SECRET}", body + more, extra_environ=HERE, status="*"
                )
                assert answer.status_int == 400

    def test_a_database_that_is_away_lets_nobody_in(
        self, publish: Callable[..., int], services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sqlalchemy.exc import OperationalError

        def away(*given: object) -> None:
            raise OperationalError("x", {}, Exception("away"))

        monkeypatch.setattr(services.database, "run", away, raising=False)
        assert publish() == 503


class TestDone:
    def test_who_leaves_is_absent_from_then_on(
        self,
        app: App,
        publish: Callable[..., int],
        stream: dict[str, Any],
        database_state: DatabaseState,
    ) -> None:
        publish()
        assert done(app, stream, "1") == 204
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["publisher"]) == ("open", None)
        assert room["offline_since"] is not None
        with database_state.unchanged():
            assert done(app, stream, "1") == 204
        assert publish(clientid="3") == 204

    def test_a_publisher_that_nginx_lists_under_another_number_is_that_one(
        self,
        app: App,
        nginx: FakeNginx,
        publish: Callable[..., int],
        stream: dict[str, Any],
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        """After a restart of nginx we are told of nobody: its list counts."""
        publish()
        settle(services)
        nginx.go_live(stream["title"])
        services.stream_monitor.sweep()
        assert database_state.rows("rooms")[0]["publisher"] == "7"
        nginx.hang_up(stream["title"])
        settle(services)
        services.stream_monitor.sweep()
        (room,) = database_state.rows("rooms")
        assert room["publisher"] is None
        assert room["offline_since"] is not None

    def test_who_was_just_let_in_is_not_missed_at_once(
        self, publish: Callable[..., int], services: Services, database_state: DatabaseState
    ) -> None:
        publish()
        services.stream_monitor.sweep()
        assert database_state.rows("rooms")[0]["publisher"] == "1"


class TestWatch:
    def watch(self, app: App, name: str) -> int:
        answer = TestApp(app).get(
            f"/nginx/hook?secret={SECRET}&call=watch&name={name}", extra_environ=HERE, status="*"
        )
        return int(answer.status_int)

    def test_only_what_is_live_is_watched(
        self, app: App, stream: dict[str, Any], ann: Person
    ) -> None:
        assert self.watch(app, stream["title"]) == 204
        assert self.watch(app, "0" * 24) == 403
        ann.post("/room", leave="1")
        assert self.watch(app, stream["title"]) == 403


class TestWhoCalls:
    @pytest.mark.parametrize("secret", ["", "wrong", SECRET[:-1], SECRET + "x"])
    def test_without_the_secret_it_is_refused(
        self, secret: str, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            assert publish(secret=secret) == 403

    @pytest.mark.parametrize("peer", ["10.0.0.1", "203.0.113.7", "::ffff:10.0.0.1", ""])
    def test_from_elsewhere_there_is_no_such_path(
        self, peer: str, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            assert publish(peer=peer) == 404

    @pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
    def test_from_this_machine_it_is_there(self, peer: str, publish: Callable[..., int]) -> None:
        assert publish(peer=peer) == 204

    @pytest.mark.parametrize(
        "header", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via"]
    )
    def test_by_a_proxy_of_this_machine_there_is_no_such_path(
        self, header: str, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            assert publish(headers={header: "203.0.113.7"}) == 404

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD"])
    def test_another_method_is_405(self, method: str, app: App) -> None:
        answer = TestApp(app, HERE).request("/nginx/hook", method=method, status="*")
        assert (answer.status_int, answer.headers["Allow"]) == (405, "GET, POST")

    def test_without_a_secret_in_the_settings_there_is_no_such_path(
        self, new_app: Callable[..., App]
    ) -> None:
        assert call(new_app(), secret="", call="publish", name="x") == 404

    def test_a_trusted_proxy_on_the_same_machine_does_not_stand_in_its_way(
        self, nginx: FakeNginx, new_provider_app: Callable[..., App]
    ) -> None:
        app = new_provider_app(
            NginxRtmpStreams, nginx.server.url, http__trusted_proxies="127.0.0.1"
        )
        assert call(app, call="publish", name="x") == 403
        # Another path needs HTTPS all the same.
        assert TestApp(app, HERE).post("/log", status="*").status_int == 400
