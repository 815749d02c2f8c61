"""Test of concurrent requests to go live and to leave the room."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.support.api import App, UserClient, run_concurrently, sorted_results
from tests.support.database_state import DatabaseState


def test_concurrent_go_live_and_leave_requests_keep_at_most_one_room_open(
    ann: UserClient, new_hardened_app: Callable[..., App], database_state: DatabaseState
) -> None:
    app = new_hardened_app(
        streams__gateway="tests.support.fake_gateways.RecordingStreams",
        limits__rooms="",
        limits__room_updates="",
    )
    streams: Any = app.registry.services.gateways.streams
    created_count, disabled_count = len(streams.created), len(streams.disabled)
    send_go_live, send_leave = (
        partial(ann.with_app(app).post, "/room", live="1"),
        partial(ann.with_app(app).post, "/room", leave="1"),
    )
    for _ in range(5):
        responses = run_concurrently(*[send_go_live, send_leave] * 10)
        assert set(sorted_results(responses)) <= {"0000", "0009"}
        assert all(response.status == 200 for response in responses)
        rooms = database_state.rows("rooms")
        assert {room["state"] for room in rooms} <= {"open", "closed"}
        assert sum(room["state"] == "open" for room in rooms) <= 1
    send_leave()
    # The server created one stream per room, and disabled every stream.
    stream_keys = sorted(room["stream_key"] for room in database_state.rows("rooms"))
    assert (
        sorted(streams.created[created_count:])
        == sorted(streams.disabled[disabled_count:])
        == stream_keys
    )
