"""Reads JSON as the types of responses."""

import json
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints


class UnexpectedValue(Exception):
    """A JSON value does not have the expected type. The text does not contain the value."""


def parse_json(text: str | bytes) -> object:
    """Parse JSON; raise UnexpectedValue if that is not possible."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    # Raised here, because the suppressed exception refers to the text, which can contain secrets.
    raise UnexpectedValue("it is not JSON")


def read(value: object, expected_type: Any, name: str) -> Any:
    """Return a JSON value as an instance of a response type.

    A field in camel case becomes an attribute in snake case. Fields that are not expected are
    ignored, because newer servers add fields. `name` is the name of the value in the text of
    UnexpectedValue, which is raised for a missing field and for another JSON type.
    """
    if expected_type is Any:
        return value
    if expected_type is datetime:
        return _read_time(value, name)
    if is_dataclass(expected_type):
        return _read_object(value, expected_type, name)
    if get_origin(expected_type) is not None:
        return _read_generic(value, get_origin(expected_type), get_args(expected_type), name)
    return _checked(value, expected_type or NoneType, name)


def read_fields(value: object, types: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the fields of a JSON object; raise UnexpectedValue."""
    json_object = _checked(value, dict, name)
    missing_names = types.keys() - json_object.keys()
    if missing_names:
        raise UnexpectedValue(f"{name}.{min(missing_names)} is missing")
    return {
        field_name: read(json_object[field_name], field_type, f"{name}.{field_name}")
        for field_name, field_type in types.items()
    }


def _read_object(value: object, response_type: Any, name: str) -> Any:
    return response_type(*read_fields(value, _types_by_json_name(response_type), name).values())


@cache
def _types_by_json_name(response_type: Any) -> dict[str, Any]:
    """Return the types of the fields by their names in JSON, in the order of the constructor."""
    types = get_type_hints(response_type)
    return {_camel_case(field.name): types[field.name] for field in fields(response_type)}


def _camel_case(name: str) -> str:
    first_word, *other_words = name.split("_")
    return first_word + "".join(map(str.capitalize, other_words))


def _read_generic(value: object, origin: Any, arguments: tuple[Any, ...], name: str) -> Any:
    if origin is list:
        items = _checked(value, list, name)
        return [read(item, arguments[0], f"{name}[{n}]") for n, item in enumerate(items)]
    if origin is dict:
        return read_fields(value, dict.fromkeys(_checked(value, dict, name), arguments[1]), name)
    if origin is Literal:
        # Only the type is checked, because newer servers add values.
        return _checked(value, type(arguments[0]), name)
    # The only unions are those with None.
    if value is None:
        return None
    (expected_type,) = set(arguments) - {NoneType}
    return read(value, expected_type, name)


def _read_time(value: object, name: str) -> datetime:
    text = _checked(value, str, name)
    with suppress(ValueError):
        time = datetime.fromisoformat(text)
        if time.tzinfo:
            return time
    raise UnexpectedValue(f"{name} is not a time with a time zone")


def _checked(value: object, json_type: type[Any], name: str) -> Any:
    # bool is a subclass of int, but another JSON type.
    if type(value) is json_type:
        return value
    raise UnexpectedValue(
        f"{name} is of the type {type(value).__name__} instead of {json_type.__name__}"
    )
