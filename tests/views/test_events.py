"""/events: tickets, and the check of each connection to the event engine."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import Connection
from webtest import TestApp, TestResponse

from livebackend.container import Services
from livebackend.events.channels import user_channel
from livebackend.events.tickets import EventTickets
from livebackend.services import operator_accounts
from livebackend.services.event_streams import EventStreams
from tests.support.api import PASSWORD, ApiClient, App, UserClient
from tests.support.application import DEVELOPMENT_SECRET, replace_services
from tests.support.clock import FakeClock
from tests.support.live_events import append_warnings, number_events

NOW = int(time.time())


@pytest.fixture
def clock(app: App, services: Services, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of the event streams."""
    clock = FakeClock(NOW)
    streams = EventStreams(
        services.database,
        services.login_tokens,
        EventTickets([DEVELOPMENT_SECRET], clock=clock),
        services.rate_limits,
        url="http://127.0.0.1:6543/events",
        replay_s=120,
        clock=clock,
    )
    replace_services(app, monkeypatch, event_streams=streams)
    return clock


def ticket_of(user: UserClient) -> str:
    response = user.post("/events", ticket="1")
    assert response.result == "0000", response
    return str(response.message["url"]).partition("ticket=")[2]


def connect(app: App, ticket: str, last_event_id: str = "", **query: str) -> TestResponse:
    """Send the request with which an event engine checks a connection."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    return TestApp(app).get("/events", {"ticket": ticket, **query}, headers=headers, status="*")


def account_id(services: Services, user: UserClient) -> int:
    return services.login_tokens.read(user.token).account_id


def change_as_operator(change: Callable[..., Any], user: UserClient, services: Services) -> None:
    def find_and_change(connection: Connection) -> None:
        account = operator_accounts.find_account_details(connection, user.phone)
        assert account
        change(connection, services.outbox, account)

    services.database.run(find_and_change)


def connection_counts(services: Services) -> dict[str, float]:
    name = "livebackend_events_connections_total"
    get = services.metrics.registry.get_sample_value
    results = ("accepted", "reset", "invalid_ticket", "revoked", "rate_limited")
    return {result: get(name, {"result": result}) or 0 for result in results}


class TestTickets:
    def test_response_has_the_url_of_the_stream_and_its_lifetime(self, ann: UserClient) -> None:
        message = ann.post("/events", ticket="1").message
        assert message.keys() == {"url", "expiresIn", "channels"}
        assert message["url"].startswith("http://127.0.0.1:6543/events?ticket=")
        assert message["expiresIn"] in (59, 60)

    def test_response_has_the_number_of_the_last_event(
        self, ann: UserClient, services: Services
    ) -> None:
        channel = user_channel(account_id(services, ann))
        assert ann.post("/events", ticket="1").message["channels"] == [
            {"channel": channel, "seq": 0}
        ]
        append_warnings(services.database, account_id(services, ann), "first", "second")
        number_events(services.database)
        assert ann.post("/events", ticket="1").message["channels"] == [
            {"channel": channel, "seq": 2}
        ]

    def test_ticket_expires_with_the_login_token(self, ann: UserClient, api: ApiClient) -> None:
        short = api.log_in(ann.phone, expire_in="20")
        assert short.post("/events", ticket="1").message["expiresIn"] in (20, 21)

    def test_url_is_that_of_the_setting(self, new_app: Callable[..., App], ann: UserClient) -> None:
        other_app = new_app(events__public_url="https://events.example/stream")
        url = ann.with_app(other_app).post("/events", ticket="1").message["url"]
        assert url.startswith("https://events.example/stream?ticket=")

    def test_user_without_a_login_token_gets_no_ticket(self, api: ApiClient) -> None:
        assert api.post("/events", ticket="1").result == "0012"

    def test_ticket_is_no_login_token(self, ann: UserClient, api: ApiClient) -> None:
        response = api.post("/list", friendlist="1", token=ticket_of(ann))
        assert response.result == "0012"


class TestConnections:
    def test_ticket_leads_to_the_channel_of_its_user(
        self, app: App, ann: UserClient, services: Services, clock: FakeClock
    ) -> None:
        response = connect(app, ticket_of(ann))
        assert response.status_int == 200
        assert response.body == b""
        location = urlsplit(response.headers["X-Accel-Redirect"])
        assert location.path == f"/_events/user.{account_id(services, ann)}"
        # The stream begins before the ticket was issued, also if the clocks differ.
        assert parse_qs(location.query) == {"last": [f"{NOW - 5}:0"]}
        assert response.headers["Cache-Control"] == "no-store"

    def test_ticket_opens_several_connections_for_60_s(
        self, app: App, ann: UserClient, clock: FakeClock
    ) -> None:
        ticket = ticket_of(ann)
        clock.now += 59
        for _ in range(2):
            location = connect(app, ticket).headers["X-Accel-Redirect"]
            assert location.endswith(f"?last={NOW - 5}:0")
        clock.now += 1
        assert connect(app, ticket).status_int == 403

    def test_last_event_id_of_the_header_or_the_query_is_the_start(
        self, app: App, ann: UserClient, clock: FakeClock
    ) -> None:
        ticket = ticket_of(ann)
        for response in (
            connect(app, ticket, f"{NOW - 100}:3"),
            connect(app, ticket, last=f"{NOW - 100}:3"),
            connect(app, ticket, f"{NOW - 100}:[3],-", last=f"{NOW - 1}:0"),
        ):
            assert response.headers["X-Accel-Redirect"].endswith(f"?last={NOW - 100}:3")

    @pytest.mark.parametrize("last_event_id", ["", "x", "1:0\u00e9", "1:0&last=5:0"])
    def test_id_of_an_event_that_is_no_longer_stored_causes_a_reset(
        self, last_event_id: str, app: App, ann: UserClient, clock: FakeClock
    ) -> None:
        response = connect(app, ticket_of(ann), last=last_event_id or f"{NOW - 121}:0")
        assert response.status_int == 200
        assert "X-Accel-Redirect" not in response.headers
        assert response.content_type == "text/event-stream"
        lines = response.text.split("\n")
        assert lines[:2] == ["event: reset", f"id: {NOW - 5}:0"]
        assert '"operations":["/golden balance=1","/list friendlist=1"' in lines[2]

    @pytest.mark.parametrize("ticket", ["", "x", "a.b", "é"])
    def test_invalid_ticket_is_403(self, ticket: str, app: App) -> None:
        response = connect(app, ticket)
        assert response.status_int == 403
        assert response.json == {"result": "0003", "message": None}
        assert response.headers["X-Error"] == "ticket; reason=invalid_ticket"

    def test_login_token_is_no_ticket(self, app: App, ann: UserClient) -> None:
        assert connect(app, ann.token).status_int == 403
        assert TestApp(app).get("/events", status="*").status_int == 403

    @pytest.mark.parametrize(
        "end_access",
        [
            lambda ann, _: ann.post("/log", logout="1"),
            lambda ann, _: ann.post(
                "/log", change="1", oldPassword=PASSWORD, password="another-harbour-7"
            ),
            lambda ann, _: ann.post("/register", remove="1", password=PASSWORD),
            lambda ann, services: change_as_operator(operator_accounts.disable, ann, services),
            lambda ann, services: change_as_operator(operator_accounts.revoke, ann, services),
        ],
        ids=["logout", "password change", "removal", "disabled", "revoked"],
    )
    def test_ticket_of_a_revoked_login_token_is_204(
        self,
        end_access: Callable[[UserClient, Services], Any],
        app: App,
        ann: UserClient,
        ben: UserClient,
        services: Services,
    ) -> None:
        ticket = ticket_of(ann)
        assert connect(app, ticket).status_int == 200
        end_access(ann, services)
        response = connect(app, ticket)
        assert (response.status_int, response.body) == (204, b"")
        assert "X-Accel-Redirect" not in response.headers
        assert connect(app, ticket_of(ben)).status_int == 200

    def test_other_login_tokens_of_the_user_stay_valid_after_a_logout(
        self, app: App, ann: UserClient, api: ApiClient
    ) -> None:
        other_ticket = ticket_of(api.log_in(ann.phone))
        ann.post("/log", logout="1")
        assert connect(app, other_ticket).status_int == 200

    def test_connection_over_the_rate_limit_of_its_account_is_429(
        self, new_app: Callable[..., App], ann: UserClient, ben: UserClient
    ) -> None:
        app = new_app(limits__event_streams="2 per hour")
        ticket = ticket_of(ann.with_app(app))
        assert [connect(app, ticket).status_int for _ in range(2)] == [200, 200]
        before = connection_counts(app.registry.services)["rate_limited"]
        response = connect(app, ticket)
        assert connection_counts(app.registry.services)["rate_limited"] == before + 1
        assert (response.status_int, response.json["result"]) == (429, "0003")
        assert response.headers["X-Error"] == "request; reason=rate_limited"
        assert 3500 < int(response.headers["Retry-After"]) <= 3600
        assert "X-Accel-Redirect" not in response.headers
        assert connect(app, ticket_of(ben.with_app(app))).status_int == 200
        # The client must not wait in vain.
        ann.with_app(app).post("/log", logout="1")
        assert connect(app, ticket).status_int == 204

    def test_rejected_connection_is_not_counted_against_the_rate_limit(
        self, new_app: Callable[..., App], ann: UserClient, api: ApiClient
    ) -> None:
        app = new_app(limits__event_streams="1 per hour")
        revoked_ticket = ticket_of(ann.with_app(app))
        ann.with_app(app).post("/log", logout="1")
        assert [connect(app, revoked_ticket).status_int for _ in range(2)] == [204, 204]
        ticket = ticket_of(api.log_in(ann.phone).with_app(app))
        assert connect(app, ticket + "x").status_int == 403
        assert connect(app, ticket).status_int == 200

    def test_connections_are_counted_by_result(
        self, app: App, ann: UserClient, services: Services, clock: FakeClock
    ) -> None:
        ticket = ticket_of(ann)
        before = connection_counts(services)
        connect(app, ticket)
        connect(app, ticket, last="1:0")
        connect(app, "x")
        ann.post("/log", logout="1")
        connect(app, ticket)
        expected = {name: before[name] + 1 for name in before}
        assert connection_counts(services) == {**expected, "rate_limited": before["rate_limited"]}

    def test_query_is_accepted_in_hardened_mode(self, hardened_app: App, phone_of_ann: Any) -> None:
        ticket = ticket_of(phone_of_ann.register())
        assert connect(hardened_app, ticket).status_int == 200
        response = TestApp(hardened_app).post("/events?ticket=1", status="*")
        assert response.headers["X-Error"] == "query; reason=query_not_allowed"

    def test_ticket_twice_is_400(self, app: App, ann: UserClient) -> None:
        ticket = ticket_of(ann)
        url = f"/events?ticket={ticket}&ticket={ticket}"
        assert TestApp(app).get(url, status="*").status_int == 400

    def test_head_request_is_405(self, app: App, ann: UserClient) -> None:
        response = TestApp(app).head(f"/events?ticket={ticket_of(ann)}", status="*")
        assert (response.status_int, response.headers["Allow"]) == (405, "GET")


class TestWithoutAnEngine:
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD"])
    def test_path_does_not_exist(
        self, method: str, new_app: Callable[..., App], ann: UserClient
    ) -> None:
        app = new_app(events__gateway="")
        response = TestApp(app).request(
            f"/events?ticket=1&token={ann.token}", method=method, status="*"
        )
        assert response.status_int == 404
        assert response.headers["X-Error"] == "path; reason=unknown_path"
