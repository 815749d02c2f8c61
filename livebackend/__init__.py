"""The backend of a live-streaming app: the server is put together in `app`."""

from collections.abc import Mapping
from typing import Any


def main(global_config: Mapping[str, Any], **ini: Any) -> Any:
    """The WSGI application: `livebackend.app.main`."""
    # Not above: each import of a module of this package would load the whole application.
    from livebackend.app import main as make  # noqa: PLC0415

    return make(global_config, **ini)
