"""Runs migrations, each in a transaction of its own, over the connection that it is given."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:  # the SQL alone is asked for
    context.configure(dialect_name="postgresql", transaction_per_migration=True)
else:
    context.configure(
        connection=connection,
        transaction_per_migration=True,
        on_version_apply=context.config.attributes["on_version_apply"],
    )
with context.begin_transaction():
    context.run_migrations()
