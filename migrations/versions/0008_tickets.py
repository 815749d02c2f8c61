"""Codes that are named by a ticket: what they are for, and how often they were tried."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE codes
            ADD purpose varchar(8) NOT NULL DEFAULT 'register'
                CONSTRAINT ck_codes_purpose CHECK (purpose IN ('register', 'reset')),
            ADD tries smallint NOT NULL DEFAULT 0
                CONSTRAINT ck_codes_tries CHECK (tries BETWEEN 0 AND 5)
    """)
    op.execute("CREATE INDEX ix_codes_phone ON codes (phone)")
    op.execute("CREATE INDEX ix_codes_expires_at ON codes (expires_at)")
