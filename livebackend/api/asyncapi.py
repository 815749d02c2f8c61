"""The AsyncAPI 3.0 document of the live events, generated from their declarations."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from livebackend.api.bilingual_text import BilingualText
from livebackend.events.declarations import EVENTS, FORMAT_VERSION, Event, Field
from livebackend.events.reset import OPERATIONS

_DESCRIPTION = BilingualText(
    "An event stream (Server-Sent Events) sends the events of a user. The operation `event_ticket`"
    " of the OpenAPI documents returns its URL. The data of each event is JSON. New versions can"
    " add types and fields: ignore those that you do not know.",
    "事件流（Server-Sent Events）发送用户的事件，其 URL 由 OpenAPI 文档中的接口"
    " `event_ticket` 返回。每个事件的数据是 JSON。新版本可能增加类型和字段，请忽略未知的内容。",
)
_CHANNEL = BilingualText(
    "The events of one user. A client can receive an event again: drop an event whose `seq` is not"
    " greater than the last one of its channel. If a `seq` is missing, the client has missed"
    " events.",
    "一个用户的事件。事件可能重复收到：`seq` 不大于该频道上一个事件的 `seq` 时，请丢弃。"
    "`seq` 不连续说明遗漏了事件。",
)
_TICKET = "the URL that the operation `event_ticket` returns contains the ticket"
_LAST_ID = "`id` of the last event, for clients that cannot send the header `Last-Event-ID`"
_TIME = "2026-11-26T14:47:42.123456Z"
# The fields of an event before its data, with their schemas and examples.
_COMMON_FIELDS: dict[str, tuple[BilingualText, dict[str, Any], Any]] = {
    "v": (
        BilingualText("version of the format", "格式版本"),
        {"type": "integer", "const": FORMAT_VERSION},
        FORMAT_VERSION,
    ),
    "type": (BilingualText("type of the event", "事件类型"), {"type": "string"}, None),
    "channel": (
        BilingualText("name of the channel", "频道名称"),
        {"type": "string", "pattern": r"^user\.[0-9]+$"},
        "user.7",
    ),
    "seq": (
        BilingualText("number of the event in its channel", "事件在频道内的编号"),
        {"type": "integer", "minimum": 1},
        32,
    ),
    "time": (
        BilingualText("time of the change, in UTC", "变更发生的时间（UTC）"),
        {"type": "string", "format": "date-time"},
        _TIME,
    ),
}
# An engine sends this event itself, so it is in no channel, and has no number.
_RESET_FIELDS = ("v", "type", "time")
_RESET_TITLE = BilingualText("Missed events", "遗漏事件")
_RESET_DESCRIPTION = BilingualText(
    "The client can have missed events: call the operations of `data.operations`, which return the"
    " current state.",
    "客户端可能遗漏了事件：请调用 `data.operations` 中的接口，获取当前状态。",
)
_RESET_OPERATIONS = BilingualText(
    "the operations, as path and selector", "接口，格式为路径和选择参数"
)


def build_event_document(*, url: str) -> dict[str, Any]:
    """Return the AsyncAPI document; `url` is that of event streams, without a ticket."""
    messages = {event.type.value: _message_of(event) for event in EVENTS.values()}
    messages["reset"] = _reset_message()
    channel_messages = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    return {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": "application/json",
        "servers": {"events": _server(url)},
        "channels": {
            "user": {
                "address": "user.{accountId}",
                "title": "Events of a user",
                **_described(_CHANNEL),
                "servers": [{"$ref": "#/servers/events"}],
                "parameters": {"accountId": {"description": "id of the user's account"}},
                "messages": channel_messages,
            }
        },
        "operations": {"send_events": _send_events(channel_messages)},
        "components": {
            "messages": messages,
            "securitySchemes": {
                "ticket": {
                    "type": "httpApiKey",
                    "name": "ticket",
                    "in": "query",
                    "description": _TICKET,
                }
            },
        },
    }


def _info() -> dict[str, Any]:
    return {
        "title": "Live events of livebackend",
        "version": version("livebackend"),
        **_described(_DESCRIPTION),
        "contact": {"name": "The livebackend authors"},
        "license": {
            "name": "Apache License 2.0",
            "url": "https://www.apache.org/licenses/LICENSE-2.0",
        },
        "tags": [{"name": "events"}],
    }


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.netloc,
        "pathname": parts.path,
        "protocol": parts.scheme,
        "description": "event streams (Server-Sent Events)",
        "security": [{"$ref": "#/components/securitySchemes/ticket"}],
    }


def _send_events(channel_messages: Iterable[str]) -> dict[str, Any]:
    query = {
        "type": "object",
        "properties": {
            "ticket": {"type": "string", "description": _TICKET},
            "last": {"type": "string", "description": _LAST_ID},
        },
        "required": ["ticket"],
    }
    return {
        "action": "send",
        "channel": {"$ref": "#/channels/user"},
        "title": "Send the events of a user",
        "description": "The server sends the events to each client that has opened the stream.",
        "bindings": {"http": {"method": "GET", "query": query, "bindingVersion": "0.3.0"}},
        "messages": [{"$ref": f"#/channels/user/messages/{name}"} for name in channel_messages],
    }


def _message_of(event: Event) -> dict[str, Any]:
    return {
        **_message(
            event.type.value,
            BilingualText(*event.title),
            BilingualText(*event.description),
            _payload_schema(event.type.value, _COMMON_FIELDS, _object_schema(event.fields)),
            _example(event.type.value, _COMMON_FIELDS, _example_of(event.fields)),
        ),
        "x-operation": event.operation or None,
    }


def _reset_message() -> dict[str, Any]:
    data_schema = {
        "type": "object",
        "properties": {
            "operations": {
                "type": "array",
                "items": {"type": "string"},
                "examples": [OPERATIONS],
                **_described(_RESET_OPERATIONS),
            }
        },
        "required": ["operations"],
    }
    return {
        **_message(
            "reset",
            _RESET_TITLE,
            _RESET_DESCRIPTION,
            _payload_schema("reset", _RESET_FIELDS, data_schema),
            _example("reset", _RESET_FIELDS, {"operations": OPERATIONS}),
        ),
        "x-operation": None,
    }


def _message(
    name: str,
    title: BilingualText,
    description: BilingualText,
    payload: dict[str, Any],
    example: dict[str, Any],
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title.english,
        "x-zh": title.chinese,
        "description": description.english,
        "x-zh-description": description.chinese,
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"name": name, "payload": example}],
    }


def _payload_schema(
    event_type: str, names: Iterable[str], data_schema: dict[str, Any]
) -> dict[str, Any]:
    properties = {}
    for name in names:
        text, schema, example = _COMMON_FIELDS[name]
        if name == "type":
            schema, example = schema | {"const": event_type}, event_type
        properties[name] = schema | {"examples": [example]} | _described(text)
    data_text = BilingualText("what the event reports", "事件内容")
    properties["data"] = data_schema | _described(data_text)
    return {"type": "object", "properties": properties, "required": list(properties)}


def _example(event_type: str, names: Iterable[str], data: dict[str, Any]) -> dict[str, Any]:
    common = {name: _COMMON_FIELDS[name][2] for name in names}
    return common | {"type": event_type, "data": data}


def _object_schema(fields: Iterable[Field]) -> dict[str, Any]:
    properties = {field.name: _field_schema(field) for field in fields}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _field_schema(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": field.type}
    if field.fields:
        schema = _object_schema(field.fields)
    if field.values:
        schema["enum"] = list(field.values)
    if field.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema | _described(BilingualText(*field.description))


def _example_of(fields: Iterable[Field]) -> dict[str, Any]:
    return {
        field.name: _example_of(field.fields) if field.fields else field.example for field in fields
    }


def _described(text: BilingualText) -> dict[str, str]:
    return {"description": text.english, "x-zh": text.chinese}
