"""The Alembic environment: runs each migration in its own transaction."""

from alembic import context

from livebackend.models import Base

connection = context.config.attributes.get("connection")
if connection is None:  # offline mode: print the SQL
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        transaction_per_migration=True,
    )
else:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        on_version_apply=context.config.attributes["on_version_apply"],
    )
with context.begin_transaction():
    context.run_migrations()
