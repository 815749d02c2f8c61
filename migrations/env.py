"""Runs migrations over the connection that is handed in."""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
# Two servers may start at once; a table in use must not be waited for without end.
connection.execute(text("SET LOCAL lock_timeout = '5s'"))
connection.execute(text("SET LOCAL statement_timeout = '60s'"))
connection.execute(text("SELECT pg_advisory_xact_lock(6543)"))
context.configure(connection=connection, transaction_per_migration=False)
context.run_migrations()
