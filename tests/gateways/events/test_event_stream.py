"""The format of event streams."""

import pytest

from livebackend.gateways.events.event_stream import EventId, event_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1795786340:0", (1_795_786_340, 0)),
        ("1795786340:12", (1_795_786_340, 12)),
        # Ids of Nchan with several channels.
        ("1795786340:[3],-", (1_795_786_340, 3)),
        ("1795786340:-,[1],2", (1_795_786_340, 0)),
        ("", None),
        ("1795786340", None),
        ("1795786340:", (1_795_786_340, 0)),
        (":1", None),
        ("-1:1", None),
        ("99999999999:1", None),
        ("1:1\r\nX: y", None),
        ("1:1&last=2", None),
        ("1:" + "1," * 200, None),
        ("１:1", None),
    ],
)
def test_id_of_a_client_is_parsed(text: str, expected: tuple[int, int] | None) -> None:
    assert EventId.parse(text) == expected


def test_event_has_its_type_id_and_body_on_one_line_each() -> None:
    lines = event_lines(EventId(5, 2), "coins_changed", b'{"v":1}')
    assert lines == b'event: coins_changed\nid: 5:2\ndata: {"v":1}\n\n'
    assert str(EventId(5, 2)) == "5:2"
