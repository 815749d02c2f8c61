"""Stream monitor: closes offline or abandoned rooms, and disables their streams."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from livebackend.container import Services
from livebackend.database.engine import Database
from livebackend.database.leases import Lease
from livebackend.development.streams import DevelopmentStreams
from livebackend.gateways.streams import StreamReference
from livebackend.housekeeping.periodic_tasks import PeriodicTasks
from livebackend.services.stream_monitor import OPENING_TIMEOUT_S, StreamMonitor
from tests.support.api import ApiClient, App, UserClient, run_concurrently
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import RecordingStreams
from tests.support.housekeeping import NO_OTHER_TASKS
from tests.support.statements import record_statements
from tests.support.streams import go_live

TASK_OPTIONS: dict[str, Any] = {"holder": "worker", "period_s": 10}


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    return new_app(streams__gateway="tests.support.fake_gateways.RecordingStreams")


@pytest.fixture
def provider(services: Services) -> Iterator[RecordingStreams]:
    gateway = services.gateways.streams
    assert isinstance(gateway, RecordingStreams)
    gateway.created, gateway.disabled = [], []
    yield gateway
    gateway.fails = False
    gateway.recover()


@pytest.fixture
def monitor(services: Services) -> StreamMonitor:
    return services.stream_monitor


def age_rooms(database: Database, seconds: float) -> None:
    """Subtract `seconds` from all timestamps of all rooms."""
    columns = (
        "started_at stream_seen_at offline_since provider_checked_at published_at closed_at"
        " disable_retry_at"
    )
    assignments = ", ".join(
        f"{column} = {column} - make_interval(secs => :seconds)" for column in columns.split()
    )
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE rooms SET {assignments}"), {"seconds": seconds})


def only_room(database_state: DatabaseState) -> dict[str, object]:
    (row,) = database_state.rows("rooms")
    return row


class TestOfflineStreams:
    def test_housekeeping_records_that_a_publisher_is_online(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        go_live(ann)
        age_rooms(database, 300)
        room_before = only_room(database_state)
        assert monitor.check_rooms() == (1, 0, 0, False)
        room_after = only_room(database_state)
        assert room_after["state"] == "open"
        assert room_after["offline_since"] is None
        assert room_after["stream_seen_at"] - room_before["stream_seen_at"] > timedelta(seconds=299)  # type: ignore[operator]

    def test_room_is_closed_60_s_after_its_publisher_left(
        self,
        ann: UserClient,
        ben: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
        database_state: DatabaseState,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        ann.befriend(ben)
        key = go_live(ann)
        monitor.check_rooms()
        provider.stop_publishing(key)
        monitor.check_rooms()
        last_seen = only_room(database_state)["stream_seen_at"]
        age_rooms(database, 59)
        assert monitor.check_rooms().closed == 0
        assert ben.friends()[0]["liveStatus"] == "on"
        age_rooms(database, 1)
        assert monitor.check_rooms() == (1, 1, 1, False)
        closed_room = only_room(database_state)
        assert (closed_room["state"], closed_room["close_reason"]) == ("closed", "offline")
        assert closed_room["stream_seen_at"] == last_seen - timedelta(seconds=60)  # type: ignore[operator]
        assert provider.disabled == [key]
        assert closed_room["disabled_at"] is not None
        assert ben.friends()[0]["liveStatus"] == "off"
        assert f"room {closed_room['id']}: closed (offline), stream last seen" in caplog.text

    def test_room_stays_open_if_the_publisher_reconnects_in_time(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
    ) -> None:
        key = go_live(ann)
        for _ in range(3):
            provider.stop_publishing(key)
            monitor.check_rooms()
            age_rooms(database, 50)
            provider.start_publishing(key)
            assert monitor.check_rooms().closed == 0
            age_rooms(database, 50)

    def test_room_that_never_had_a_publisher_is_closed_after_60_s(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
    ) -> None:
        provider.stop_publishing(go_live(ann))
        age_rooms(database, 59)
        assert monitor.check_rooms().closed == 0
        age_rooms(database, 1)
        assert monitor.check_rooms().closed == 1

    @pytest.mark.parametrize("failure", ["reject_calls", "time_out"])
    def test_failing_provider_closes_no_room(
        self,
        failure: str,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        key = go_live(ann)
        provider.stop_publishing(key)
        monitor.check_rooms()
        age_rooms(database, 59)
        getattr(provider, failure)()
        age_rooms(database, 3600)
        with database_state.assert_unchanged():
            assert monitor.check_rooms() == (0, 0, 0, True)
        provider.recover()
        provider.start_publishing(key)
        assert monitor.check_rooms() == (1, 0, 0, False)
        assert only_room(database_state)["state"] == "open"

    def test_housekeeping_queries_up_to_100_streams_in_one_call(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with database.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO accounts (phone, password_hash)"
                    " SELECT '2' || lpad(n::text, 10, '0'), 'x' FROM generate_series(1, 250) AS n"
                )
            )
            connection.execute(
                text(
                    "INSERT INTO rooms (account_id, state, stream_key, publish_key, stream,"
                    " play_urls) SELECT id, 'open', 'key-' || id, 'p', '{}', '{}' FROM accounts"
                    " WHERE phone LIKE '2%'"
                )
            )
        batch_sizes: list[int] = []
        live_publishers = DevelopmentStreams.live_publishers

        def record_and_query(self: DevelopmentStreams, streams: list[StreamReference]) -> object:
            batch_sizes.append(len(streams))
            return live_publishers(self, streams)

        monkeypatch.setattr(DevelopmentStreams, "live_publishers", record_and_query)
        with record_statements() as statements:
            assert monitor.check_rooms().checked == 250
        assert batch_sizes == [100, 100, 50]
        assert len(statements) < 15


class TestAbandonedRooms:
    def crash_during_go_live(
        self, monkeypatch: pytest.MonkeyPatch, provider: RecordingStreams, user: UserClient
    ) -> None:
        """Simulate a crash of the server between creation of the stream and COMMIT."""

        class Crash(BaseException):
            pass

        original_create = DevelopmentStreams.create

        def create_and_crash(self: DevelopmentStreams, key: str, publish_key: str) -> object:
            original_create(self, key, publish_key)
            created_keys.append(key)
            raise Crash

        created_keys: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(RecordingStreams, "create", create_and_crash)
            with pytest.raises(Crash):
                user.go_live()
        assert provider.live_publishers([StreamReference(created_keys[0])]) == {
            created_keys[0]: None
        }

    def test_room_left_by_a_crash_is_closed_and_its_stream_disabled(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.crash_during_go_live(monkeypatch, provider, ann)
        assert only_room(database_state)["state"] == "opening"
        assert monitor.check_rooms().closed == 0  # a request may still be opening the room
        age_rooms(database, OPENING_TIMEOUT_S)
        assert monitor.check_rooms() == (0, 1, 1, False)
        closed_room = only_room(database_state)
        assert (closed_room["state"], closed_room["close_reason"]) == ("closed", "abandoned")
        assert provider.live_publishers([StreamReference(str(closed_room["stream_key"]))]) == {}

    @pytest.mark.processes
    def test_room_left_by_a_crash_is_closed_within_the_housekeeping_period(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The period is 10 s; the first task starts when a killed worker's lease expires."""
        periodic_tasks = PeriodicTasks(database, monitor, NO_OTHER_TASKS, **TASK_OPTIONS)
        database.run(
            Lease("housekeeping", "killed worker", ttl_s=periodic_tasks.interval_s).acquire
        )
        start = time.monotonic()
        self.crash_during_go_live(monkeypatch, provider, ann)
        periodic_tasks.start()
        try:
            while not provider.disabled:
                assert time.monotonic() - start < 10
                time.sleep(0.05)
        finally:
            periodic_tasks.close()
        assert only_room(database_state)["close_reason"] == "abandoned"


class TestDisabledStreams:
    def test_stream_that_leave_failed_to_disable_is_disabled_by_a_later_round(
        self,
        ann: UserClient,
        ben: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        ann.befriend(ben)
        key = go_live(ann)
        provider.time_out()
        assert ann.post("/room", leave="1").body == {"result": "0000", "message": None}
        assert ben.friends()[0]["liveStatus"] == "off"
        provider.recover()
        assert list(provider.live_publishers([StreamReference(key)])) == [key]
        assert monitor.check_rooms().disabled == 0  # the delay before the retry has not passed
        age_rooms(database, 10)
        assert monitor.check_rooms().disabled == 1
        assert provider.live_publishers([StreamReference(key)]) == {}
        assert only_room(database_state)["disabled_at"] is not None
        assert monitor.check_rooms().disabled == 0

    def test_delay_between_attempts_to_disable_doubles_up_to_640_s(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
    ) -> None:
        go_live(ann)
        provider.time_out()
        ann.post("/room", leave="1")
        for delay_s in (10, 20, 40, 80, 160, 320, 640, 640):
            age_rooms(database, delay_s - 1)
            assert not monitor.check_rooms().failed
            age_rooms(database, 1)
            assert monitor.check_rooms().failed

    def test_unavailable_provider_is_called_once_per_round(
        self,
        hosts: list[UserClient],
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
    ) -> None:
        for host in hosts:
            go_live(host)
        provider.time_out()
        for host in hosts:
            host.post("/room", leave="1")
        provider.disabled.clear()
        age_rooms(database, 3600)
        assert monitor.check_rooms().failed
        assert len(provider.disabled) == 1
        provider.recover()
        assert monitor.check_rooms().disabled == len(hosts) - 1

    def test_stream_whose_creation_failed_is_disabled(
        self, ann: UserClient, monitor: StreamMonitor, provider: RecordingStreams
    ) -> None:
        """The provider can report an error although it has created the stream."""
        provider.fails = True
        ann.go_live()
        provider.fails = False
        assert monitor.check_rooms().disabled == 1
        assert provider.disabled == provider.created

    @pytest.fixture
    def hosts(self, api: ApiClient) -> list[UserClient]:
        return [api.register_user(f"1380000010{n}") for n in range(4)]


class TestRefreshStatus:
    def test_refresh_status_ignores_a_change_within_2_s_of_the_previous_query(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database_state: DatabaseState,
    ) -> None:
        key = go_live(ann)
        monitor.refresh_status(key)
        assert only_room(database_state)["offline_since"] is None
        provider.stop_publishing(key)
        with database_state.assert_unchanged():
            monitor.refresh_status(key)  # less than 2 s after the previous query

    def test_refresh_status_closes_a_room_that_was_offline_for_60_s(
        self,
        ann: UserClient,
        monitor: StreamMonitor,
        provider: RecordingStreams,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        key = go_live(ann)
        provider.stop_publishing(key)
        age_rooms(database, 60)
        monitor.refresh_status(key)
        assert only_room(database_state)["close_reason"] == "offline"
        assert provider.disabled == [key]

    def test_twenty_concurrent_status_refreshes_cause_one_query(
        self, ann: UserClient, monitor: StreamMonitor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = go_live(ann)
        queried_streams: list[object] = []
        live_publishers = DevelopmentStreams.live_publishers
        monkeypatch.setattr(
            DevelopmentStreams,
            "live_publishers",
            lambda self, streams: queried_streams.append(streams) or live_publishers(self, streams),  # type: ignore[func-returns-value]
        )
        run_concurrently(*[partial(monitor.refresh_status, key)] * 20)
        assert queried_streams == [[StreamReference(key, f"z1.livebackend.{key}")]]

    def test_refresh_status_of_an_unknown_stream_changes_nothing(
        self, monitor: StreamMonitor, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            monitor.refresh_status("unknown")
