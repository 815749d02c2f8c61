"""Tests of the nginx hook that permits or denies publishing and playing."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from webtest import TestApp

from livebackend.container import Services
from livebackend.gateways.streams import NginxRtmpStreams
from tests.support.api import App, UserClient, run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.fake_providers import HUB, FakeNginxRtmp
from tests.support.fake_server import running_fake_server

HOOK_SECRET = "a-secret-of-the-tests-that-is-long-enough"
LOOPBACK = {"REMOTE_ADDR": "127.0.0.1"}


@pytest.fixture
def nginx() -> Iterator[FakeNginxRtmp]:
    nginx = FakeNginxRtmp()
    with running_fake_server(nginx.server):
        yield nginx


@pytest.fixture
def app(nginx: FakeNginxRtmp, new_provider_app: Callable[..., App]) -> App:
    return new_provider_app(NginxRtmpStreams, nginx.server.url)


def post_hook(
    app: App, *, secret: str = HOOK_SECRET, client_address: str = "127.0.0.1", **fields: Any
) -> int:
    headers = fields.pop("headers", {})
    hub = fields.pop("hub", HUB)
    response = TestApp(app).post(
        f"/nginx/hook?secret={secret}",
        {"app": hub, "type": "live", "addr": "10.0.0.9", **fields},
        headers=headers,
        extra_environ={"REMOTE_ADDR": client_address},
        status="*",
    )
    return int(response.status_int)


@pytest.fixture
def stream(ann: UserClient) -> dict[str, Any]:
    stream: dict[str, Any] = json.loads(ann.go_live().message)
    return stream


@pytest.fixture
def publish(app: App, stream: dict[str, Any]) -> Callable[..., int]:
    """A function that sends nginx's publish hook for Ann's stream.

    Its keyword arguments replace fields of the valid request.
    """
    fields = {"call": "publish", "name": stream["title"], "key": stream["publishKey"]}
    return lambda **changed_fields: post_hook(app, **{**fields, "clientid": "1", **changed_fields})


def report_publish_done(app: App, stream: dict[str, Any], client_id: str) -> int:
    return post_hook(app, call="publish_done", name=stream["title"], clientid=client_id)


def end_grace_period(services: Services) -> None:
    """Make the start of publishing older than the grace period of 5 s."""
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE rooms SET published_at = now() - interval '6 seconds'")


class TestPublish:
    def test_publish_with_the_correct_key_is_allowed(
        self, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        assert publish() == 204
        (room,) = database_state.rows("rooms")
        assert (room["publisher"], room["offline_since"]) == ("1", None)
        assert room["published_at"] == room["stream_seen_at"]

    @pytest.mark.parametrize(
        "changed_fields",
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
    def test_publish_with_a_wrong_field_returns_403(
        self,
        changed_fields: dict[str, str],
        publish: Callable[..., int],
        database_state: DatabaseState,
    ) -> None:
        with database_state.assert_unchanged():
            assert publish(**changed_fields) == 403

    def test_publish_with_an_overlong_client_id_is_allowed(
        self, publish: Callable[..., int]
    ) -> None:
        assert publish(clientid="1" * 150) == 204

    def test_publish_after_leaving_the_room_returns_403(
        self, publish: Callable[..., int], ann: UserClient, database_state: DatabaseState
    ) -> None:
        ann.post("/room", leave="1")
        with database_state.assert_unchanged():
            assert publish() == 403

    def test_second_publisher_gets_403_and_the_first_publisher_stays(
        self,
        app: App,
        nginx: FakeNginxRtmp,
        publish: Callable[..., int],
        stream: dict[str, Any],
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        publish()
        nginx.start_publishing(stream["title"])
        for is_past_grace_period in (False, True):
            if is_past_grace_period:
                end_grace_period(services)
            with database_state.assert_unchanged():
                assert publish(clientid="2") == 403
                # nginx sends `publish_done` for a rejected publisher, too.
                assert report_publish_done(app, stream, "2") == 204
        services.stream_monitor.check_rooms()
        assert database_state.rows("rooms")[0]["publisher"] == "7"

    def test_only_one_of_eight_concurrent_publishers_is_allowed(
        self, publish: Callable[..., int]
    ) -> None:
        statuses = run_concurrently(*[partial(publish, clientid=str(n)) for n in range(8)])
        assert sorted(statuses) == [204] + [403] * 7

    def test_new_publisher_is_allowed_when_the_first_ended_without_publish_done(
        self, publish: Callable[..., int], services: Services, database_state: DatabaseState
    ) -> None:
        """An nginx worker that dies does not send `publish_done`."""
        publish()
        end_grace_period(services)
        assert publish(clientid="2") == 204
        assert database_state.rows("rooms")[0]["publisher"] == "2"

    def test_second_publisher_gets_403_when_the_media_server_fails(
        self,
        nginx: FakeNginxRtmp,
        publish: Callable[..., int],
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        publish()
        end_grace_period(services)
        nginx.server.failure_mode = "500"
        with database_state.assert_unchanged():
            assert publish(clientid="2") == 403

    def test_publish_with_a_duplicate_field_returns_400(
        self, app: App, stream: dict[str, Any], database_state: DatabaseState
    ) -> None:
        body = (
            f"call=publish&app={HUB}&name={stream['title']}&key={stream['publishKey']}&clientid=1"
        )
        for duplicate_field in (
            "&key=x",
            "&name=x",
            "&call=publish_done",
            f"&secret={HOOK_SECRET}",
        ):
            with database_state.assert_unchanged():
                response = TestApp(app).post(
                    f"/nginx/hook?secret={HOOK_SECRET}",
                    body + duplicate_field,
                    extra_environ=LOOPBACK,
                    status="*",
                )
                assert response.status_int == 400

    def test_publish_without_a_database_connection_returns_503(
        self, publish: Callable[..., int], services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lose_connection(*_: object) -> None:
            raise OperationalError("x", {}, Exception("connection lost"))

        monkeypatch.setattr(services.database, "run", lose_connection, raising=False)
        assert publish() == 503


class TestPublishDone:
    def test_publish_done_marks_the_room_offline(
        self,
        app: App,
        publish: Callable[..., int],
        stream: dict[str, Any],
        database_state: DatabaseState,
    ) -> None:
        publish()
        assert report_publish_done(app, stream, "1") == 204
        (room,) = database_state.rows("rooms")
        assert (room["state"], room["publisher"]) == ("open", None)
        assert room["offline_since"] is not None
        with database_state.assert_unchanged():
            assert report_publish_done(app, stream, "1") == 204
        assert publish(clientid="3") == 204

    def test_housekeeping_stores_the_publisher_that_nginx_lists(
        self,
        app: App,
        nginx: FakeNginxRtmp,
        publish: Callable[..., int],
        stream: dict[str, Any],
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        """After a restart, nginx lists publishers in its statistics under new client ids."""
        publish()
        end_grace_period(services)
        nginx.start_publishing(stream["title"])
        services.stream_monitor.check_rooms()
        assert database_state.rows("rooms")[0]["publisher"] == "7"
        nginx.stop_publishing(stream["title"])
        end_grace_period(services)
        services.stream_monitor.check_rooms()
        (room,) = database_state.rows("rooms")
        assert room["publisher"] is None
        assert room["offline_since"] is not None

    def test_housekeeping_keeps_a_new_publisher_that_nginx_does_not_list_yet(
        self, publish: Callable[..., int], services: Services, database_state: DatabaseState
    ) -> None:
        publish()
        services.stream_monitor.check_rooms()
        assert database_state.rows("rooms")[0]["publisher"] == "1"


class TestWatch:
    def watch(self, app: App, name: str) -> int:
        response = TestApp(app).get(
            f"/nginx/hook?secret={HOOK_SECRET}&call=watch&name={name}",
            extra_environ=LOOPBACK,
            status="*",
        )
        return int(response.status_int)

    def test_watch_is_allowed_only_for_open_rooms(
        self, app: App, stream: dict[str, Any], ann: UserClient
    ) -> None:
        assert self.watch(app, stream["title"]) == 204
        assert self.watch(app, "0" * 24) == 403
        ann.post("/room", leave="1")
        assert self.watch(app, stream["title"]) == 403


class TestHookAccess:
    @pytest.mark.parametrize("secret", ["", "wrong", HOOK_SECRET[:-1], HOOK_SECRET + "x"])
    def test_hook_with_a_wrong_secret_returns_403(
        self, secret: str, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert publish(secret=secret) == 403

    @pytest.mark.parametrize("client_address", ["10.0.0.1", "203.0.113.7", "::ffff:10.0.0.1"])
    def test_hook_from_a_remote_address_returns_404(
        self, client_address: str, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert publish(client_address=client_address) == 404

    def test_hook_over_a_unix_socket_is_refused(
        self, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert publish(client_address="") == 400

    @pytest.mark.parametrize("client_address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
    def test_hook_from_a_loopback_address_is_allowed(
        self, client_address: str, publish: Callable[..., int]
    ) -> None:
        assert publish(client_address=client_address) == 204

    @pytest.mark.parametrize(
        "header", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via"]
    )
    def test_hook_through_a_proxy_on_loopback_returns_404(
        self, header: str, publish: Callable[..., int], database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            assert publish(headers={header: "203.0.113.7"}) == 404

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD"])
    def test_hook_with_another_method_returns_405(self, method: str, app: App) -> None:
        response = TestApp(app, LOOPBACK).request("/nginx/hook", method=method, status="*")
        assert (response.status_int, response.headers["Allow"]) == (405, "GET, POST")

    def test_hook_without_a_configured_secret_returns_404(
        self, new_app: Callable[..., App]
    ) -> None:
        assert post_hook(new_app(), secret="", call="publish", name="x") == 404

    def test_hook_needs_no_https_when_loopback_is_a_trusted_proxy(
        self, nginx: FakeNginxRtmp, new_provider_app: Callable[..., App]
    ) -> None:
        app = new_provider_app(
            NginxRtmpStreams, nginx.server.url, http__trusted_proxies="127.0.0.1"
        )
        assert post_hook(app, call="publish", name="x") == 403
        # Requests to other paths still require HTTPS.
        assert TestApp(app, LOOPBACK).post("/log", status="*").status_int == 400
