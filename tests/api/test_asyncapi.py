"""The AsyncAPI document matches the declarations of the events.

The tests of the outbox compare events with it, and the contract tests validate it.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator, FormatChecker

from livebackend.api.asyncapi import build_event_document
from livebackend.events.declarations import EVENTS
from livebackend.events.reset import reset_lines
from livebackend.gateways.events.event_stream import EventId
from tests.support.api import App, openapi_document
from tests.support.application import RECORDING_EVENTS
from tests.support.live_events import check_event

DOCUMENT = build_event_document(url="https://live.example/events")
MESSAGES = DOCUMENT["components"]["messages"]


def properties_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and schemas of all properties, also of the objects in an object."""
    inner_schema = schema.get("anyOf", [schema])[0]
    for name, property_schema in inner_schema.get("properties", {}).items():
        yield name, property_schema
        yield from properties_of(property_schema)


def served_document(app: App) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(app.registry.pages["asyncapi.json"].body)
    return document


def url_of(document: dict[str, Any]) -> str:
    server = document["servers"]["events"]
    return f"{server['protocol']}://{server['host']}{server['pathname']}"


def test_document_has_every_event_type_and_reset() -> None:
    names = [*EVENTS, "reset"]
    assert list(MESSAGES) == list(DOCUMENT["channels"]["user"]["messages"]) == names
    references = [message["$ref"] for message in DOCUMENT["operations"]["send_events"]["messages"]]
    assert references == [f"#/channels/user/messages/{name}" for name in names]


@pytest.mark.parametrize("name", EVENTS)
def test_message_matches_the_declaration_of_its_event(name: str) -> None:
    event, message = EVENTS[name], MESSAGES[name]
    assert (message["title"], message["x-zh"]) == event.title
    assert (message["description"], message["x-zh-description"]) == event.description
    assert message["x-operation"] == (event.operation or None)
    payload = message["payload"]
    assert payload["required"] == ["v", "type", "channel", "seq", "time", "data"]
    assert payload["properties"]["type"]["const"] == name
    assert list(payload["properties"]["data"]["properties"]) == [
        field.name for field in event.fields
    ]


@pytest.mark.parametrize("name", MESSAGES)
def test_example_of_a_message_is_valid(name: str) -> None:
    payload = MESSAGES[name]["payload"]
    Draft7Validator.check_schema(payload)
    validator = Draft7Validator(payload, format_checker=FormatChecker())
    (example,) = MESSAGES[name]["examples"]
    validator.validate(example["payload"])
    assert example["payload"]["type"] == name
    assert not validator.is_valid(example["payload"] | {"type": "other"})
    for field in payload["required"]:
        incomplete = {key: value for key, value in example["payload"].items() if key != field}
        assert not validator.is_valid(incomplete)


def test_reset_of_a_stream_matches_the_document() -> None:
    lines = reset_lines(EventId(1_795_786_340, 0)).decode().splitlines()
    check_event(orjson.loads(lines[2].removeprefix("data: ")))


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_has_a_description_in_english_and_chinese(name: str) -> None:
    for field, schema in properties_of(MESSAGES[name]["payload"]):
        assert schema["description"].isascii(), field
        assert not schema["x-zh"].isascii(), field


def test_operations_that_a_client_calls_again_are_in_the_openapi_document(app: App) -> None:
    schemas = openapi_document(app.registry)["components"]["schemas"]
    selectors = {name for schema in schemas.values() for name in schema.get("properties", {})}
    operations = MESSAGES["reset"]["examples"][0]["payload"]["data"]["operations"]
    assert operations == sorted({event.operation for event in EVENTS.values()} - {""})
    for operation in operations:
        path, selection = operation.split(" ")
        assert path in openapi_document(app.registry)["paths"]
        assert selection.removesuffix("=1") in selectors


def test_server_is_the_url_of_the_event_streams(new_app: Callable[..., App]) -> None:
    app = new_app(events__public_url="https://events.example/stream")
    assert url_of(served_document(app)) == "https://events.example/stream"


@pytest.mark.parametrize("gateway", [RECORDING_EVENTS, ""])
def test_server_is_at_the_public_url_by_default(gateway: str, new_app: Callable[..., App]) -> None:
    app = new_app(events__gateway=gateway, http__public_url="https://live.example/")
    assert url_of(served_document(app)) == "https://live.example/events"
