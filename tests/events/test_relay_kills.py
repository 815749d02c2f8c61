"""Relays that are killed lose no event; `make relay-kill-test` kills them more often."""

from pathlib import Path

import pytest

from tests.relay_kill_test import run_kill_test
from tests.support.database_state import DatabaseState
from tests.support.event_writers import Writer, find_errors


@pytest.mark.processes
def test_killed_relays_lose_no_event_and_repeat_events_with_the_same_number(
    database_url: str, database_state: DatabaseState, tmp_path: Path
) -> None:
    report = run_kill_test(database_url, tmp_path, kills=3, seed=1)
    assert report.errors == []
    assert report.events > 100


class TestErrors:
    """The kill test detects each kind of error."""

    LINES = tuple(
        b'{"channel":"user.1","seq":%d,"data":{"text":"0-%d"}}' % (n, n) for n in (1, 2, 3)
    )

    def errors(self, *lines: bytes) -> list[str]:
        writer = Writer(None, 0, [1], None)  # type: ignore[arg-type]
        writer.committed[1] = ["0-1", "0-2", "0-3"]
        return find_errors(list(lines), [writer])

    def test_repeated_lines_are_no_error(self) -> None:
        first, second, third = self.LINES
        assert self.errors(first, second, first, second, third) == []

    def test_lost_event_is_an_error(self) -> None:
        assert self.errors(*self.LINES[:2])

    def test_gap_is_an_error(self) -> None:
        first, _, third = self.LINES
        assert self.errors(first, third)

    def test_repeat_with_another_number_is_an_error(self) -> None:
        assert self.errors(*self.LINES, self.LINES[0].replace(b'"seq":1', b'"seq":4'))

    def test_repeat_with_another_content_is_an_error(self) -> None:
        assert self.errors(*self.LINES, self.LINES[0].replace(b"0-1", b"0-9"))

    def test_event_of_a_transaction_that_was_rolled_back_is_an_error(self) -> None:
        line = self.LINES[0].replace(b'"seq":1', b'"seq":4').replace(b"0-1", b"0-4")
        assert self.errors(*self.LINES, line)
