"""The backend of a live-streaming app."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def main(global_config: Mapping[str, Any], **settings: Any) -> Any:
    """Return the WSGI application: the factory that ini files name.

    `settings` is the ini file's section, overridden by the environment.
    """
    # Not above: a command that needs no application does not wait for its import.
    from livebackend.app import create_app  # noqa: PLC0415
    from livebackend.config.settings import with_own_address  # noqa: PLC0415

    return create_app(with_own_address(settings, global_config), os.environ)


def __getattr__(name: str) -> Any:
    """Find a module by its deprecated name: logging sections name classes by it."""
    from livebackend.config.deprecated_names import current_module  # noqa: PLC0415

    try:
        current = current_module(f"{__name__}.{name}")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return import_module(current)
