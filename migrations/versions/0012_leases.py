"""What one server process at a time does."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE leases (
            name varchar(50) CONSTRAINT pk_leases PRIMARY KEY,
            holder varchar(50) NOT NULL,
            expires_at timestamptz NOT NULL
        )
    """)
