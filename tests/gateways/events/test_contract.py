"""All event engines behave in the same way: the event server, Nchan, and Nchan with Redis."""

import json
import queue
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection

from livebackend.database.engine import Database
from livebackend.events.outbox import Outbox
from livebackend.events.tickets import EventTickets
from livebackend.gateways.events.http_engine import HttpEventEngine
from livebackend.gateways.events.protocol import (
    MAX_EVENT_BYTES,
    ChannelEvent,
    EventEngine,
    EventsFailed,
    InvalidEvent,
    PublishedEvent,
    WrongSecret,
)
from livebackend.monitoring.event_check import EventCheck
from livebackend.monitoring.health_checks import CheckFailed
from livebackend.services import operator_accounts
from tests.support.event_engines import (
    MAX_STREAMS_ADDRESS,
    RunningEngine,
    StreamUser,
    has_nchan,
    has_redis,
    local_engine,
    nchan_engine,
)
from tests.support.event_streams import StreamClient, connect, request_stream
from tests.support.waiting import wait_until

needs_nchan = pytest.mark.skipif(not has_nchan(), reason="needs libnginx-mod-nchan and openssl")
needs_redis = pytest.mark.skipif(not has_redis(), reason="needs redis-server")
pytestmark = pytest.mark.processes

MAX_PING_INTERVAL_S = 20
MAX_CLOSE_S = 1
# On a busy machine; usually 0.2 s.
MAX_RELAYED_CLOSE_S = 5
# Of the test with slow subscribers.
MAX_SLOW_S = 15
MAX_ADDED_BYTES = 10_000_000
OLD_ID = "1000000000:0"
# Headers in which Nchan receives the id of the last event.
HEADERS_WITH_IDS = [
    {},
    {"If-None-Match": "12:0"},
    {"If-None-Match": "32:0"},
    {"If-None-Match": "1:0", "If-Modified-Since": "Thu, 01 Jan 1970 00:00:05 GMT"},
    {"Last-Event-ID": f"{2**31}:0", "If-None-Match": "[1],-"},
]


@pytest.fixture(
    scope="module",
    params=[
        "event server",
        pytest.param("nchan", marks=needs_nchan),
        pytest.param("nchan with redis", marks=[needs_nchan, needs_redis]),
    ],
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, database_url: str
) -> Iterator[RunningEngine]:
    folder = tmp_path_factory.mktemp("engine")
    engines: dict[str, Callable[[], Any]] = {
        "event server": lambda: local_engine(folder, database_url),
        "nchan": lambda: nchan_engine(folder, database_url),
        "nchan with redis": lambda: nchan_engine(folder, database_url, nodes=2, redis=True),
    }
    with engines[request.param]() as running:
        yield running


@pytest.fixture
def ann(running: RunningEngine) -> StreamUser:
    return running.new_user()


def disable(database: Database, phone: str) -> None:
    def find_and_disable(connection: Connection) -> None:
        account = operator_accounts.find_account_details(connection, phone)
        assert account
        operator_accounts.disable(connection, Outbox(enabled=True), account)

    database.run(find_and_disable)


def numbered_event(number: int, text: str = "") -> PublishedEvent:
    body = {"v": 1, "type": "coins_changed", "seq": number, "data": {"text": text}}
    return PublishedEvent("coins_changed", json.dumps(body, separators=(",", ":")).encode())


def publish(engine: EventEngine, channel: str, *numbers: int) -> None:
    publish_events(engine, channel, *map(numbered_event, numbers))


def publish_events(engine: EventEngine, channel: str, *events: PublishedEvent) -> None:
    rest: Sequence[ChannelEvent] = [ChannelEvent(channel, event) for event in events]
    while rest:
        rest = engine.publish(rest)


def received_numbers(client: StreamClient, count: int) -> list[int]:
    return [event.body["seq"] for event in client.take(count)]


def receives_nothing_more(client: StreamClient) -> bool:
    try:
        client.next_new(timeout_s=0.5)
    except queue.Empty:
        return True
    return False


class TestDelivery:
    def test_events_arrive_in_order_with_their_type(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        with ann.open() as client:
            publish(running.engine, ann.channel, *range(1, 51))
            events = client.take(50)
        assert [event.body["seq"] for event in events] == list(range(1, 51))
        assert {event.type for event in events} == {"coins_changed"}
        assert client.headers.get_content_type() == "text/event-stream"
        # A browser must not send the ticket with its next request.
        assert client.headers["Referrer-Policy"] == "no-referrer"

    def test_events_of_another_user_do_not_arrive(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        ben = running.new_user()
        with ann.open() as client:
            publish(running.engine, ben.channel, 1)
            publish(running.engine, ann.channel, 2)
            assert received_numbers(client, 1) == [2]

    def test_two_channels_are_in_one_stream(self, running: RunningEngine) -> None:
        number = time.monotonic_ns() % 10**9
        names = [f"user.{number}", f"room.{number}"]
        with running.open_channels(",".join(names)) as (engine, client):
            wait_until(lambda: engine.subscribers(names[1]), 10, "the subscription")
            publish(engine, names[0], 1)
            publish(engine, names[1], 2)
            publish(engine, names[0], 3)
            numbers = [client.next().body["seq"] for _ in range(3)]
        # The order between channels is not defined.
        assert sorted(numbers) == [1, 2, 3]
        assert numbers.index(1) < numbers.index(3)

    def test_event_without_subscribers_is_accepted(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        publish(running.engine, ann.channel, 1)
        assert running.engine.subscribers(ann.channel) == 0

    def test_event_of_the_maximum_size_arrives_complete(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        empty_size = len(numbered_event(1).body)
        event = numbered_event(1, "x" * (MAX_EVENT_BYTES - empty_size))
        assert len(event.body) == MAX_EVENT_BYTES
        with ann.open() as client:
            publish_events(running.engine, ann.channel, event)
            assert client.next_new().data.encode() == event.body

    def test_line_break_in_a_text_forges_no_field(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        text = "a\n\nevent: forged\r\ndata: {}\r\rid: 9:9\u2028"
        with ann.open() as client:
            publish_events(running.engine, ann.channel, numbered_event(1, text))
            publish(running.engine, ann.channel, 2)
            event, next_event = client.take(2)
        assert (event.type, event.body["data"]["text"]) == ("coins_changed", text)
        assert (next_event.type, next_event.body["seq"]) == ("coins_changed", 2)

    @pytest.mark.parametrize(
        "event",
        [
            PublishedEvent("coins_changed", b'{"a":\n"b"}'),
            PublishedEvent("coins_changed", b"{}\rdata: x"),
            PublishedEvent("coins\nid: 1", b"{}"),
            PublishedEvent("coins_changed", b"x" * (MAX_EVENT_BYTES + 1)),
            PublishedEvent("coins_changed", b""),
        ],
    )
    def test_invalid_event_is_rejected(
        self, event: PublishedEvent, running: RunningEngine, ann: StreamUser
    ) -> None:
        with pytest.raises(InvalidEvent):
            publish_events(running.engine, ann.channel, event)

    def test_connection_without_events_receives_a_ping(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        with ann.open() as client:
            opened_at = time.monotonic()
            wait_until(
                lambda: client.ping_times and client.ping_times[-1] > opened_at + 5,
                MAX_PING_INTERVAL_S,
                "a ping",
            )

    def test_publisher_needs_the_secret(self, running: RunningEngine, ann: StreamUser) -> None:
        stranger = HttpEventEngine(running.publish_url, "another-secret")
        for call in (
            lambda: publish(stranger, ann.channel, 1),
            lambda: stranger.close_channel(ann.channel),
            lambda: stranger.subscribers(ann.channel),
        ):
            with pytest.raises(EventsFailed, match="403"):
                call()


class TestRecovery:
    @pytest.mark.parametrize("place", ["header", "query"])
    def test_client_that_connects_again_receives_the_missed_events_once(
        self, place: str, running: RunningEngine, ann: StreamUser
    ) -> None:
        with ann.open() as client:
            publish(running.engine, ann.channel, 1, 2)
            last_id = client.take(2)[-1].id
        publish(running.engine, ann.channel, 3, 4, 5)
        url = ann.stream_url()
        if place == "query":
            url, last_id = f"{url}&last={last_id}", ""
        with ann.open(last_id, url, last_seq=2) as client:
            publish(running.engine, ann.channel, 6)
            assert received_numbers(client, 4) == [3, 4, 5, 6]
            assert receives_nothing_more(client)

    def test_clients_with_the_id_of_a_deleted_event_receive_later_events(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        with ann.open() as client:
            publish(running.engine, ann.channel, 1)
            last_id = client.next_new().id
            running.engine.close_channel(ann.channel)
        with ExitStack() as stack:
            clients = [stack.enter_context(ann.open(last_id, last_seq=1)) for _ in range(5)]
            time.sleep(1)
            publish(running.engine, ann.channel, 2)
            assert [received_numbers(client, 1) for client in clients] == [[2]] * 5
        # Such ids make Nchan 1.3.6 crash, if it receives them.
        assert "Assertion" not in running.logs()

    def test_headers_of_clients_end_no_process_of_the_engine(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        with ann.open():  # all processes have started
            processes = running.process_ids()
        for _ in range(4):
            user = running.new_user()
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(user.open(headers=headers)) for headers in HEADERS_WITH_IDS
                ]
                user.wait_for_subscriptions(5)
                publish(running.engine, user.channel, 1, 2)
                assert [received_numbers(client, 2) for client in clients] == [[1, 2]] * 5
        assert running.process_ids() == processes

    def test_stream_has_the_events_since_its_ticket_was_issued(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        url = ann.stream_url()
        publish(running.engine, ann.channel, 1, 2)
        with ann.open(url=url) as client:
            publish(running.engine, ann.channel, 3)
            assert received_numbers(client, 3) == [1, 2, 3]

    @pytest.mark.parametrize("last_id", [OLD_ID, "not-an-id", "1:0,[2],-"])
    def test_client_with_an_id_that_is_too_old_receives_a_reset(
        self, last_id: str, running: RunningEngine, ann: StreamUser
    ) -> None:
        url = ann.stream_url()
        with StreamClient(url, running.ca_file, last_id) as client:
            reset = client.next()
            assert client.ended.wait(5)
        assert reset.type == reset.body["type"] == "reset"
        assert "/list friendlist=1" in reset.body["data"]["operations"]
        publish(running.engine, ann.channel, 1)
        # EventSource connects again with the id of the last event, and with the same URL.
        with ann.open(reset.id, url) as client:
            publish(running.engine, ann.channel, 2)
            assert received_numbers(client, 2) == [1, 2]

    def test_clients_connect_again_after_a_restart_of_the_engine(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        with ann.open() as client:
            publish(running.engine, ann.channel, 1)
            last_id = client.next_new().id
            running.restart()
            assert client.ended.wait(10)
        running.wait_until_ready()
        # The event server sends a reset. With Nchan, the client detects missed events by the gap in
        # the sequence numbers.
        with ann.open(last_id, last_seq=1) as client:
            publish(running.engine, ann.channel, 5)
            assert received_numbers(client, 1) == [5]


class TestAccess:
    def test_invalid_ticket_is_403(self, running: RunningEngine, ann: StreamUser) -> None:
        url = ann.stream_url()
        prefix, _, ticket = url.partition("ticket=")
        changed = ("b" if ticket[0] == "a" else "a") + ticket[1:]
        for wrong_ticket in ("", "x", changed, ann.token, ticket + "="):
            client = StreamClient(f"{prefix}ticket={wrong_ticket}", running.ca_file)
            assert client.status == 403
            assert json.loads(client.body)["result"] == "0003"

    def test_expired_ticket_is_403(self, running: RunningEngine, ann: StreamUser) -> None:
        an_hour_ago = EventTickets([running.secret], clock=lambda: time.time() - 61)
        ticket = an_hour_ago.issue(
            token_id="x",
            account_id=ann.account_id,
            token_version=1,
            token_expires_at=int(time.time()) + 1000,
        )
        prefix = ann.stream_url().partition("ticket=")[0]
        assert StreamClient(f"{prefix}ticket={ticket.text}", running.ca_file).status == 403

    def test_closed_channel_ends_at_once_after_its_last_event(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        with ann.open() as client, ann.open() as other_client:
            ann.wait_for_subscriptions(2)
            publish(running.engine, ann.channel, 1)
            started_at = time.monotonic()
            running.engine.close_channel(ann.channel)
            for closed_client in (client, other_client):
                assert closed_client.ended.wait(5)
                last_event = closed_client.next_new()
                assert last_event.body["seq"] == 1
            assert time.monotonic() < started_at + MAX_CLOSE_S
        running.engine.close_channel(ann.channel)
        with ann.open(last_event.id, last_seq=1) as client:
            # With Redis, Nchan can need a moment until it sends events to another node. Clients
            # detect a missed event by the gap in the sequence numbers.
            for number in range(2, 12):
                publish(running.engine, ann.channel, number)
                if not receives_nothing_more(client):
                    break
            else:
                pytest.fail("the client receives no event")

    def test_disabled_account_cannot_connect_again(
        self, running: RunningEngine, ann: StreamUser, database: Database
    ) -> None:
        url = ann.stream_url()
        with ann.open(url=url) as client:
            ann.wait_for_subscriptions(1)
            disable(database, ann.phone)
            # The relay of the running livebackend publishes the last event, and closes the channel.
            assert client.ended.wait(MAX_RELAYED_CLOSE_S)
            assert client.next_new().type == "account_disabled"
            publish(running.engine, ann.channel, 2)
            assert receives_nothing_more(client)
        assert StreamClient(url, running.ca_file).status == 204

    def test_login_token_after_logout_opens_no_stream(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        url = ann.stream_url()
        assert running.post("/log", logout="1", token=ann.token)["result"] == "0000"
        assert StreamClient(url, running.ca_file).status == 204

    def test_account_has_at_most_five_streams(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(ann.open()) for _ in range(5)]
            ann.wait_for_subscriptions(5)
            rejected = StreamClient(ann.stream_url(), running.ca_file)
            assert rejected.status == 429
            assert int(rejected.headers["Retry-After"]) > 0
            assert rejected.headers["X-Error"] == "request; reason=too_many_streams"
            ben = running.new_user()
            stack.enter_context(ben.open())
            publish(running.engine, ann.channel, 1)
            assert [received_numbers(client, 1) for client in clients] == [[1]] * 5
        wait_until(partial(can_connect, ann), 10, "a connection")

    def test_address_has_a_limited_number_of_streams(self, running: RunningEngine) -> None:
        with ExitStack() as stack:
            for _ in range(MAX_STREAMS_ADDRESS // 5):
                user = running.new_user()
                for _ in range(5):
                    stack.enter_context(user.open())
            ben = running.new_user()
            rejected = StreamClient(ben.stream_url(), running.ca_file)
            assert rejected.status == 429
            assert rejected.headers["X-Error"] == "request; reason=too_many_streams"
        wait_until(partial(can_connect, ben), 10, "a connection")

    def test_program_of_the_same_machine_reads_no_events_without_the_secret(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        urls = [f"http://127.0.0.1:{node.stream_port}" for node in running.nodes]
        for url in urls or [running.publish_url]:
            client = StreamClient(f"{url}/_events/{ann.channel}")
            assert client.status in (403, 404)

    def test_no_log_contains_a_ticket(self, running: RunningEngine, ann: StreamUser) -> None:
        url = ann.stream_url()
        for last_id in ("", OLD_ID):
            StreamClient(url, running.ca_file, last_id).close()
        assert running.post("/log", logout="1", token=ann.token)["result"] == "0000"
        assert StreamClient(url, running.ca_file).status == 204
        ticket = url.partition("ticket=")[2]
        assert StreamClient(f"{url}x", running.ca_file).status == 403
        logs = running.logs()
        assert "event_stream" in logs
        assert ticket not in logs


class TestOperation:
    def test_doctor_receives_an_event_that_it_publishes(
        self, running: RunningEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if running.ca_file:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.ca_file)
        check = doctor_check(running)
        assert check.run() == "an event has reached a client of the event stream"
        stranger = HttpEventEngine(running.publish_url, "another-secret")
        with pytest.raises(CheckFailed, match="rejects the secret"):
            check._replace(engine=stranger).run()

    def test_status_counts_subscribers_and_stored_events(
        self, running: RunningEngine, ann: StreamUser
    ) -> None:
        engine = running.client_engine
        wait_until(lambda: engine.status().subscribers == 0, 10, "the end of other streams")
        with ann.open():
            publish(engine, ann.channel, 1)
            wait_until(lambda: engine.status().subscribers == 1, 10, "the subscription")
            status = engine.status()
        assert status.channels > 0
        assert status.stored_events > 0
        assert 0 < status.memory_bytes < status.max_memory_bytes
        wait_until(lambda: engine.status().subscribers == 0, 10, "the end of the stream")

    def test_publisher_without_the_secret_gets_no_status(self, running: RunningEngine) -> None:
        with pytest.raises(WrongSecret):
            HttpEventEngine(running.publish_url, "another-secret").status()


class TestSlowSubscribers:
    def test_20_subscribers_that_never_read_are_disconnected_and_use_little_memory(
        self, running: RunningEngine
    ) -> None:
        users = [running.new_user() for _ in range(5)]
        wait_until(lambda: subscribers(running) == 0, 10, "the end of other streams")
        with ExitStack() as stack:
            fast_client = stack.enter_context(users[0].open())
            for user in users:
                for _ in range(4):
                    stack.enter_context(never_reading_client(user.stream_url(), running.ca_file))
            wait_until(lambda: subscribers(running) == 21, 10, "the subscriptions")
            memory_bytes = running.memory_bytes()
            started_at, number, max_bytes = time.monotonic(), 1, memory_bytes
            while subscribers(running) != 1:
                assert time.monotonic() < started_at + MAX_SLOW_S, subscribers(running)
                # At most 500 events per second, or 1 MB: the engine also stores the events.
                time.sleep(0.1)
                for _ in range(10):
                    event = numbered_event(number, "x" * 1900)
                    for user in users:
                        publish_events(running.engine, user.channel, event)
                    number += 1
                max_bytes = max(max_bytes, running.memory_bytes())
            assert received_numbers(fast_client, number - 1) == list(range(1, number))
            assert max_bytes < memory_bytes + MAX_ADDED_BYTES


def subscribers(running: RunningEngine) -> int:
    """Return the number of all subscriptions.

    Several workers of Nchan can need over 10 s until they agree on the numbers of channels.
    """
    return running.client_engine.status().subscribers


def doctor_check(running: RunningEngine) -> EventCheck:
    """Return the check of `livebackend doctor` for an engine."""
    tickets = EventTickets([running.secret], clock=time.time)
    stream_url = running.new_user().stream_url().partition("?")[0]
    return EventCheck(
        running.engine,
        is_child_process=False,
        stream_url=lambda: f"{stream_url}?ticket={tickets.issue_probe()}",
    )


def can_connect(user: StreamUser) -> bool:
    with user.open() as client:
        return client.status == 200


def never_reading_client(url: str, ca_file: str | None) -> socket.socket:
    """Open a stream, and read nothing of it."""
    connection = connect(url, ca_file, receive_buffer_bytes=4096)
    request_stream(connection, url)
    return connection
