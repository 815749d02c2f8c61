"""Declarations: every type is declared, and its example is complete."""

import re
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from livebackend.events.declarations import EVENTS, Event, EventType, Field
from livebackend.events.numbering import IS_CLOSING
from livebackend.gateways.events.protocol import MAX_EVENT_BYTES
from livebackend.models import OutboxEvent

JSON_TYPES: dict[str, type] = {"string": str, "integer": int}


def all_fields(fields: Iterable[Field]) -> list[Field]:
    return [inner for field in fields for inner in (field, *all_fields(field.fields))]


def example(fields: Iterable[Field]) -> dict[str, Any]:
    return {
        field.name: example(field.fields) if field.fields else field.example for field in fields
    }


def test_every_event_type_is_declared_once() -> None:
    assert list(EVENTS) == [event_type.value for event_type in EventType]


def test_sql_condition_names_the_events_that_close_their_channel() -> None:
    closing_types = [name for name, event in EVENTS.items() if event.closes_channel]
    assert re.findall("'([a-z_]+)'", IS_CLOSING) == closing_types


def test_names_of_event_types_fit_into_the_outbox() -> None:
    assert max(map(len, EVENTS)) <= OutboxEvent.__table__.c.type.type.length  # type: ignore[attr-defined]


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_event_is_described_in_both_languages(event: Event) -> None:
    texts = [event.title, event.description]
    texts += [field.description for field in all_fields(event.fields)]
    for text in texts:
        assert text.english.isascii()
        assert not text.chinese.isascii()


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_each_field_has_an_example_of_its_type(event: Event) -> None:
    for field in all_fields(event.fields):
        if field.type == "object":
            assert field.fields
        else:
            assert isinstance(field.example, JSON_TYPES[field.type])
            assert field.example in (field.values or [field.example])
    assert len(orjson.dumps(example(event.fields))) < MAX_EVENT_BYTES / 2


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_events_to_friends_are_the_unimportant_ones(event: Event) -> None:
    assert event.to_friends is not event.important
