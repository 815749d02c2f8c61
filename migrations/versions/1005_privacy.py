"""Pictures to delete, blocks of removed accounts, and closed rooms without stream data."""

from alembic import op

revision = "1005"
down_revision = "1004"


def upgrade() -> None:
    # The rooms are changed first: the locks of the next statements block requests until the commit.
    # The previous release does not clear the rooms that it closes until it is replaced.
    op.execute("""
        UPDATE rooms SET stream = NULL, play_urls = NULL, publish_key = ''
        WHERE state = 'closed' AND (stream IS NOT NULL OR publish_key <> '')
    """)
    op.execute("""
        ALTER TABLE pictures
            ADD COLUMN deleted_at timestamptz,
            ADD CONSTRAINT ck_pictures_deleted CHECK (deleted_at IS NULL OR account_id IS NULL)
    """)
    op.execute("CREATE INDEX ix_pictures_folder ON pictures (split_part(location, '/', -2))")
    op.execute("""
        ALTER TABLE accounts
            ADD COLUMN blocked_phone_digest bytea,
            ADD CONSTRAINT ck_accounts_blocked_phone_digest
                CHECK (blocked_phone_digest IS NULL OR removed_at IS NOT NULL)
    """)
    op.execute("""
        CREATE INDEX ix_accounts_blocked_phone_digest ON accounts (blocked_phone_digest)
            WHERE blocked_phone_digest IS NOT NULL
    """)
