"""Runs migrations with Alembic."""

from collections.abc import Callable
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from io import StringIO

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(
    folder: Traversable, connection: Connection, on_version_apply: Callable[..., None]
) -> None:
    """Run the missing migrations of a folder, each in its own transaction."""
    config = _config(folder)
    config.attributes["connection"] = connection
    config.attributes["on_version_apply"] = on_version_apply
    command.upgrade(config, "head")


def upgrade_sql(folder: Traversable, revision: str) -> str:
    """Return the SQL of the migrations after a revision."""
    sql = StringIO()
    config = _config(folder)
    config.output_buffer = sql
    command.upgrade(config, f"{revision}:head", sql=True)
    return sql.getvalue()


def _config(folder: Traversable) -> Config:
    config = Config()
    with as_file(folder) as path:
        config.set_main_option("script_location", str(path).replace("%", "%%"))
    return config
