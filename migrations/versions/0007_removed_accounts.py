"""Accounts may be disabled and removed, and login tokens ended one by one."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE accounts
            ALTER phone DROP NOT NULL,
            ADD disabled_at timestamptz,
            ADD removed_at timestamptz,
            ADD CONSTRAINT ck_accounts_removed
                CHECK ((phone IS NULL) = (removed_at IS NOT NULL)),
            ADD CONSTRAINT ck_accounts_nameless CHECK (removed_at IS NULL
                OR (nickname IS NULL AND gender IS NULL AND head_image IS NULL))
    """)
    op.execute("""
        CREATE TABLE logged_out (
            token_id varchar(32) CONSTRAINT pk_logged_out PRIMARY KEY,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_logged_out_expires_at ON logged_out (expires_at)")
