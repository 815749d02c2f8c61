"""The methods of the clients, and arguments for them."""

import inspect
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Literal, get_args, get_origin, get_type_hints

from livebackend_client import AsyncClient, Client, File

# Methods that do not call an operation.
_OTHER_METHODS = {"call", "close", "aclose"}


def operation_methods(client_type: type[Client | AsyncClient]) -> dict[str, Callable[..., Any]]:
    """Return the methods for the operations by name."""
    return {
        name: method
        for name, method in inspect.getmembers(client_type, inspect.isfunction)
        if not name.startswith("_") and name not in _OTHER_METHODS
    }


METHOD_NAMES = sorted(operation_methods(Client))


def required_arguments(method_name: str) -> dict[str, Any]:
    """Return an argument for each parameter without a default."""
    method = operation_methods(Client)[method_name]
    parameters = inspect.signature(method).parameters
    return {
        name: argument
        for name, argument in all_arguments(method_name).items()
        if parameters[name].default is inspect.Parameter.empty
    }


def all_arguments(method_name: str) -> dict[str, Any]:
    """Return an argument for each parameter."""
    types: Mapping[str, Any] = get_type_hints(operation_methods(Client)[method_name])
    return {name: _argument(value_type) for name, value_type in types.items() if name != "return"}


def _argument(value_type: Any) -> Any:
    if value_type == File:
        return BytesIO(b"a picture")
    if get_origin(value_type) is Literal:
        return get_args(value_type)[0]
    if get_args(value_type):  # a type or None
        return _argument(get_args(value_type)[0])
    return value_type(1)
