"""Reading the ini file that a command is given."""

from pathlib import Path
from typing import Any

from pyramid.paster import get_appsettings

from livebackend.settings import with_own_address


def section(ini: Path) -> dict[str, Any]:
    """The application's section of an ini file."""
    found = get_appsettings(str(ini), name="main")
    return with_own_address(found, found.global_conf)
