"""How often things were done lately."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("""
        CREATE UNLOGGED TABLE limit_windows (
            key varchar(200) CONSTRAINT pk_limit_windows PRIMARY KEY,
            hits timestamptz[] NOT NULL
                CONSTRAINT ck_limit_windows_hits CHECK (cardinality(hits) >= 1),
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_limit_windows_expires_at ON limit_windows (expires_at)")
