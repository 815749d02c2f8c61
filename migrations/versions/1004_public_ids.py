"""Public ids of accounts, and the addresses that verified phones."""

from alembic import op

revision = "1004"
down_revision = "1003"


def upgrade() -> None:
    # The default is volatile, so each existing account gets its own id. The previous release
    # inserts accounts without the column.
    op.execute("""
        ALTER TABLE accounts ADD COLUMN public_id varchar(22) NOT NULL
            DEFAULT 'u_' || right(gen_random_uuid()::text, 12) || left(gen_random_uuid()::text, 8)
            CONSTRAINT uq_accounts_public_id UNIQUE
            CONSTRAINT ck_accounts_public_id CHECK (public_id ~ '^u_[0-9a-f]{20}$')
    """)
    op.execute("ALTER TABLE verification_codes ADD COLUMN verified_from bytea")
