"""Rooms that tell the truth: those who vanish, orphans of a crash, streams still to be disabled."""

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
from livebackend.housekeeping.periodic_tasks import Sweeper
from livebackend.services.stream_monitor import STALE_S, Streams
from tests.support.api import Api, App, Person, at_once
from tests.support.database_state import DatabaseState
from tests.support.fake_gateways import CountedStreams
from tests.support.housekeeping import NO_TASKS
from tests.support.statements import statements_noted
from tests.support.streams import go_live

PERIOD: dict[str, Any] = {"holder": "alive", "period_s": 10}


@pytest.fixture
def app(new_app: Callable[..., App]) -> App:
    return new_app(streams__gateway="tests.support.fake_gateways.CountedStreams")


@pytest.fixture
def provider(services: Services) -> Iterator[CountedStreams]:
    gateway = services.gateways.streams
    assert isinstance(gateway, CountedStreams)
    gateway.created, gateway.disabled = [], []
    yield gateway
    gateway.fails = False
    gateway.recover()


@pytest.fixture
def streams(services: Services) -> Streams:
    return services.stream_monitor


def age(database: Database, seconds: float) -> None:
    """Lets time go by for all rooms."""
    names = (
        "started_at stream_seen_at offline_since provider_checked_at published_at closed_at"
        " disable_retry_at"
    )
    changes = ", ".join(
        f"{name} = {name} - make_interval(secs => :seconds)" for name in names.split()
    )
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE rooms SET {changes}"), {"seconds": seconds})


def room(database_state: DatabaseState) -> dict[str, object]:
    (only,) = database_state.rows("rooms")
    return only


class TestVanished:
    def test_who_publishes_is_seen(
        self, ann: Person, streams: Streams, database: Database, database_state: DatabaseState
    ) -> None:
        go_live(ann)
        age(database, 300)
        before = room(database_state)
        assert streams.sweep() == (1, 0, 0, False)
        after = room(database_state)
        assert after["state"] == "open"
        assert after["offline_since"] is None
        assert after["stream_seen_at"] - before["stream_seen_at"] > timedelta(seconds=299)  # type: ignore[operator]

    def test_60_s_without_a_stream_close_the_room(
        self,
        ann: Person,
        ben: Person,
        streams: Streams,
        provider: CountedStreams,
        database: Database,
        database_state: DatabaseState,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        ann.befriend(ben)
        key = go_live(ann)
        streams.sweep()
        provider.hang_up(key)
        streams.sweep()
        last_seen = room(database_state)["stream_seen_at"]
        age(database, 59)
        assert streams.sweep().closed == 0
        assert ben.friends()[0]["liveStatus"] == "on"
        age(database, 1)
        assert streams.sweep() == (1, 1, 1, False)
        closed = room(database_state)
        assert (closed["state"], closed["close_reason"]) == ("closed", "offline")
        assert closed["stream_seen_at"] == last_seen - timedelta(seconds=60)  # type: ignore[operator]
        assert provider.disabled == [key]
        assert closed["disabled_at"] is not None
        assert ben.friends()[0]["liveStatus"] == "off"
        assert f"room {closed['id']} is closed: offline, last seen" in caplog.text

    def test_who_comes_back_in_time_stays(
        self, ann: Person, streams: Streams, provider: CountedStreams, database: Database
    ) -> None:
        key = go_live(ann)
        for _ in range(3):
            provider.hang_up(key)
            streams.sweep()
            age(database, 50)
            provider.go_live(key)
            assert streams.sweep().closed == 0
            age(database, 50)

    def test_who_never_publishes_has_60_s_too(
        self, ann: Person, streams: Streams, provider: CountedStreams, database: Database
    ) -> None:
        provider.hang_up(go_live(ann))
        age(database, 59)
        assert streams.sweep().closed == 0
        age(database, 1)
        assert streams.sweep().closed == 1

    @pytest.mark.parametrize("told", ["fail", "time_out"])
    def test_a_provider_that_does_not_answer_closes_nothing(
        self,
        told: str,
        ann: Person,
        streams: Streams,
        provider: CountedStreams,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        key = go_live(ann)
        provider.hang_up(key)
        streams.sweep()
        age(database, 59)
        getattr(provider, told)()
        age(database, 3600)
        with database_state.unchanged():
            assert streams.sweep() == (0, 0, 0, True)
        provider.recover()
        provider.go_live(key)
        assert streams.sweep() == (1, 0, 0, False)
        assert room(database_state)["state"] == "open"

    def test_hundreds_are_asked_for_a_hundred_at_a_time(
        self,
        ann: Person,
        streams: Streams,
        provider: CountedStreams,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
        database_state: DatabaseState,
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
        asked: list[int] = []
        on_air = DevelopmentStreams.on_air

        def counted(self: DevelopmentStreams, keys: list[str]) -> object:
            asked.append(len(keys))
            return on_air(self, keys)

        monkeypatch.setattr(DevelopmentStreams, "on_air", counted)
        with statements_noted() as statements:
            assert streams.sweep().looked_at == 250
        assert asked == [100, 100, 50]
        assert len(statements) < 15


class TestOrphans:
    def crash(
        self, monkeypatch: pytest.MonkeyPatch, provider: CountedStreams, person: Person
    ) -> None:
        """The process dies between the provider's yes and our commit."""

        class Dies(BaseException):
            pass

        create = DevelopmentStreams.create

        def made_and_dead(self: DevelopmentStreams, key: str, publish_key: str) -> object:
            create(self, key, publish_key)
            self_died.append(key)
            raise Dies

        self_died: list[str] = []
        with monkeypatch.context() as patched:
            patched.setattr(CountedStreams, "create", made_and_dead)
            with pytest.raises(Dies):
                person.live()
        assert provider.on_air(self_died) == {self_died[0]: None}

    def test_an_orphan_of_a_crash_is_ended(
        self,
        ann: Person,
        streams: Streams,
        provider: CountedStreams,
        database: Database,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.crash(monkeypatch, provider, ann)
        assert room(database_state)["state"] == "opening"
        assert streams.sweep().closed == 0  # it may be another call's that is under way
        age(database, STALE_S)
        assert streams.sweep() == (0, 1, 1, False)
        closed = room(database_state)
        assert (closed["state"], closed["close_reason"]) == ("closed", "abandoned")
        assert provider.on_air([str(closed["stream_key"])]) == {}

    @pytest.mark.processes
    def test_no_orphan_lives_longer_than_the_sweepers_period(
        self,
        ann: Person,
        streams: Streams,
        provider: CountedStreams,
        database: Database,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With the shortest period, 10 s, and another process's lease that must end first."""
        sweeper = Sweeper(database, streams, NO_TASKS, **PERIOD)
        database.run(Lease("sweeper", "dead", ttl_s=sweeper.pause_s).take)
        start = time.monotonic()
        self.crash(monkeypatch, provider, ann)
        sweeper.start()
        try:
            while not provider.disabled:
                assert time.monotonic() - start < 10
                time.sleep(0.05)
        finally:
            sweeper.close()
        assert room(database_state)["close_reason"] == "abandoned"


class TestStillToBeDisabled:
    def test_a_leave_while_the_provider_fails_is_made_good(
        self,
        ann: Person,
        ben: Person,
        streams: Streams,
        provider: CountedStreams,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        ann.befriend(ben)
        key = go_live(ann)
        provider.time_out()
        assert ann.post("/room", leave="1").body == {"result": "0000", "message": None}
        assert ben.friends()[0]["liveStatus"] == "off"
        provider.recover()
        assert list(provider.on_air([key])) == [key]
        assert streams.sweep().disabled == 0  # not yet
        age(database, 10)
        assert streams.sweep().disabled == 1
        assert provider.on_air([key]) == {}
        assert room(database_state)["disabled_at"] is not None
        assert streams.sweep().disabled == 0

    def test_each_time_it_waits_longer(
        self, ann: Person, streams: Streams, provider: CountedStreams, database: Database
    ) -> None:
        go_live(ann)
        provider.time_out()
        ann.post("/room", leave="1")
        for wait in (10, 20, 40, 80, 160, 320, 640, 640):
            age(database, wait - 1)
            assert not streams.sweep().failed
            age(database, 1)
            assert streams.sweep().failed

    def test_a_dead_provider_is_asked_once_a_round(
        self, people: list[Person], streams: Streams, provider: CountedStreams, database: Database
    ) -> None:
        for person in people:
            go_live(person)
        provider.time_out()
        for person in people:
            person.post("/room", leave="1")
        provider.disabled.clear()
        age(database, 3600)
        assert streams.sweep().failed
        assert len(provider.disabled) == 1
        provider.recover()
        assert streams.sweep().disabled == len(people) - 1

    def test_a_stream_whose_making_failed_is_disabled(
        self, ann: Person, streams: Streams, provider: CountedStreams
    ) -> None:
        """Nobody knows whether it was made all the same."""
        provider.fails = True
        ann.live()
        provider.fails = False
        assert streams.sweep().disabled == 1
        assert provider.disabled == provider.created

    @pytest.fixture
    def people(self, api: Api) -> list[Person]:
        return [api.person(f"1380000010{n}") for n in range(4)]


class TestHints:
    def test_a_look_tells_what_the_provider_says(
        self, ann: Person, streams: Streams, provider: CountedStreams, database_state: DatabaseState
    ) -> None:
        key = go_live(ann)
        streams.look_at(key)
        assert room(database_state)["offline_since"] is None
        provider.hang_up(key)
        with database_state.unchanged():
            streams.look_at(key)  # too soon after the last

    def test_a_look_closes_who_was_absent_for_long(
        self,
        ann: Person,
        streams: Streams,
        provider: CountedStreams,
        database: Database,
        database_state: DatabaseState,
    ) -> None:
        key = go_live(ann)
        provider.hang_up(key)
        age(database, 60)
        streams.look_at(key)
        assert room(database_state)["close_reason"] == "offline"
        assert provider.disabled == [key]

    def test_twenty_hints_are_one_look(
        self, ann: Person, streams: Streams, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = go_live(ann)
        asked: list[object] = []
        on_air = DevelopmentStreams.on_air
        monkeypatch.setattr(
            DevelopmentStreams,
            "on_air",
            lambda self, keys: asked.append(keys) or on_air(self, keys),  # type: ignore[func-returns-value]
        )
        at_once(*[partial(streams.look_at, key)] * 20)
        assert asked == [[key]]

    def test_an_unknown_stream_changes_nothing(
        self, streams: Streams, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            streams.look_at("nobody's")
