"""The backend of a live-streaming app."""

import os
from collections.abc import Mapping
from typing import Any


def main(global_config: Mapping[str, Any], **settings: Any) -> Any:
    """Return the WSGI application: the factory that ini files name.

    `settings` is the ini file's section, overridden by the environment.
    """
    # Not above: a command that needs no application does not wait for its import.
    from livebackend.app import create_app  # noqa: PLC0415
    from livebackend.config.settings import with_own_address  # noqa: PLC0415

    return create_app(with_own_address(settings, global_config), os.environ)
