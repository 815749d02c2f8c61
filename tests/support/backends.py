"""Backends of PostgreSQL: the server process of a connection."""

from sqlalchemy import Connection, text

from livebackend.database.engine import Database


def backend_pid(connection: Connection) -> int:
    """Return the process id of the backend of a connection."""
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def terminate_backend(pid: int, database: Database) -> None:
    """End a connection, as a restart of PostgreSQL does."""
    with database.engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
