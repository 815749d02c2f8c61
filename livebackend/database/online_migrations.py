"""Steps of a migration that do not block requests, however large the table is.

The steps commit on their own, so a migration that fails can stop between two steps. Each step has
the same result if it runs again.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op

_BATCH_SIZE = 5000


@contextmanager
def separate_transactions() -> Iterator[None]:
    """Commit each step in the `with` block on its own."""
    with op.get_context().autocommit_block():
        # The steps take longer for a large table, and block no request meanwhile.
        op.execute("SET statement_timeout = 0")
        yield
        op.execute("SET statement_timeout = '10min'")


def create_index(name: str, definition: str, *, unique: bool = False) -> None:
    """Create an index without a lock that blocks writes.

    `definition` is the SQL after ON, such as `rooms (closed_at)`.
    """
    # An earlier attempt can have left an invalid index.
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.execute(f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY {name} ON {definition}")


def add_check(table: str, name: str, condition: str) -> None:
    """Add a CHECK constraint; the existing rows are checked while requests go on."""
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
    op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def set_not_null(table: str, column: str) -> None:
    """Make a column NOT NULL; the existing rows are checked while requests go on."""
    # PostgreSQL does not check the rows again if a valid constraint proves that none is NULL.
    name = f"ck_{table}_{column}_is_set"
    add_check(table, name, f"{column} IS NOT NULL")
    op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL")
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")


def update_in_batches(table: str, assignments: str, condition: str) -> None:
    """Update the rows that satisfy the condition, 5000 ids in each transaction."""
    op.execute(f"""
        DO $$
        DECLARE
            last_id bigint := (SELECT max(id) FROM {table});
            first_id bigint := (SELECT min(id) FROM {table});
        BEGIN
            WHILE first_id <= last_id LOOP
                UPDATE {table} SET {assignments}
                WHERE id BETWEEN first_id AND first_id + {_BATCH_SIZE - 1} AND ({condition});
                COMMIT;
                first_id := first_id + {_BATCH_SIZE};
            END LOOP;
        END
        $$
    """)  # noqa: S608
