"""Whose requests an account is never shown."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE blocks (
            account_id bigint CONSTRAINT fk_blocks_account_id REFERENCES accounts (id),
            blocked_id bigint CONSTRAINT fk_blocks_blocked_id REFERENCES accounts (id),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_blocks PRIMARY KEY (account_id, blocked_id),
            CONSTRAINT ck_blocks_not_oneself CHECK (account_id <> blocked_id)
        )
    """)
    op.execute("CREATE INDEX ix_blocks_blocked_id ON blocks (blocked_id)")
