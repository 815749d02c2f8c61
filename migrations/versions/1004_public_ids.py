"""Public ids of accounts, and the addresses that verified phones."""

from alembic import op

from livebackend.database.online_migrations import (
    add_check,
    create_index,
    separate_transactions,
    set_not_null,
    update_in_batches,
)

revision = "1004"
down_revision = "1003"


def upgrade() -> None:
    with separate_transactions():
        op.execute("ALTER TABLE verification_codes ADD COLUMN IF NOT EXISTS verified_from bytea")
        op.execute("ALTER TABLE accounts ADD COLUMN IF NOT EXISTS public_id varchar(22)")
        # The previous release inserts accounts without the column.
        op.execute("""
            ALTER TABLE accounts ALTER COLUMN public_id SET DEFAULT
                'u_' || right(gen_random_uuid()::text, 12) || left(gen_random_uuid()::text, 8)
        """)
        update_in_batches("accounts", "public_id = DEFAULT", "public_id IS NULL")
        add_check("accounts", "ck_accounts_public_id", "public_id ~ '^u_[0-9a-f]{20}$'")
        set_not_null("accounts", "public_id")
        create_index("uq_accounts_public_id", "accounts (public_id)", unique=True)
    op.execute("""
        ALTER TABLE accounts
            ADD CONSTRAINT uq_accounts_public_id UNIQUE USING INDEX uq_accounts_public_id
    """)
