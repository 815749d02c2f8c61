"""The backend of a live-streaming app."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def main(global_config: Mapping[str, Any], **settings: Any) -> Any:
    """Return the WSGI application for the settings of an ini section.

    Environment variables override the settings. In an ini file, `use = egg:livebackend` refers to
    this function.
    """
    # These imports are slow, and most CLI commands do not need the application.
    from livebackend.app import create_app  # noqa: PLC0415
    from livebackend.config.settings import with_default_public_url  # noqa: PLC0415
    from livebackend.monitoring.log_queue import write_logs_in_background  # noqa: PLC0415

    write_logs_in_background()
    return create_app(with_default_public_url(settings, global_config), os.environ)


def __getattr__(name: str) -> Any:
    """Import a module by its deprecated name.

    The logging section of an ini file can contain deprecated names.
    """
    from livebackend.config.deprecated_names import current_module  # noqa: PLC0415

    try:
        current_name = current_module(f"{__name__}.{name}")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return import_module(current_name)
