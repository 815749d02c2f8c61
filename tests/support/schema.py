"""Reads the schema of a database from PostgreSQL's catalogs."""

from sqlalchemy import Connection, text

# PostgreSQL normalizes the expressions in its catalogs, so tests can compare them as text.
COLUMNS = """
    SELECT table_name, ordinal_position, column_name, column_default, is_nullable, udt_name,
        character_maximum_length, collation_name, is_identity, identity_generation, identity_start,
        identity_increment, identity_maximum, is_generated
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> 'alembic_version'
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, contype::text, condeferrable, convalidated,
        pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass
"""
INDEXES = """
    SELECT tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename <> 'alembic_version'
"""
# Storage options that Alembic does not compare: UNLOGGED and fill factors.
STORAGE = """
    SELECT relname, relkind::text, relpersistence::text, reloptions FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
        AND relname NOT LIKE 'alembic_version%'
"""
QUERIES = (COLUMNS, CONSTRAINTS, INDEXES, STORAGE)

Catalog = dict[str, set[str]]


def catalog(connection: Connection) -> Catalog:
    """Return the rows of each query in QUERIES, as text."""
    return {query: set(map(repr, connection.execute(text(query)))) for query in QUERIES}
