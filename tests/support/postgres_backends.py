"""Finds and terminates PostgreSQL backends, the server processes of connections."""

from sqlalchemy import Connection, text

from livebackend.database.engine import Database


def backend_pid(connection: Connection) -> int:
    """Return the process id of the backend that serves the connection."""
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def terminate_backend(pid: int, database: Database) -> None:
    """End the connection of a backend, as a restart of PostgreSQL does."""
    with database.engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
