"""Deleted pictures, blocks of removed accounts, closed rooms without stream data."""

from alembic import op

from livebackend.database.online_migrations import (
    add_check,
    create_index,
    separate_transactions,
    update_in_batches,
)

revision = "1005"
down_revision = "1004"


def upgrade() -> None:
    with separate_transactions():
        # The previous release does not clear the rooms that it closes until it is replaced.
        update_in_batches(
            "rooms",
            "play_urls = NULL, publish_key = '', stream = CASE WHEN stream IS NOT NULL"
            " THEN json_build_object('id', stream::json -> 'id')::text END",
            "state = 'closed' AND (play_urls IS NOT NULL OR publish_key <> '')",
        )
        op.execute("ALTER TABLE pictures ADD COLUMN IF NOT EXISTS deleted_at timestamptz")
        add_check("pictures", "ck_pictures_deleted", "deleted_at IS NULL OR account_id IS NULL")
        create_index("ix_pictures_folder", "pictures (split_part(location, '/', -2))")
        create_index("ix_pictures_deleted", "pictures (id) WHERE deleted_at IS NOT NULL")
        op.execute("ALTER TABLE accounts ADD COLUMN IF NOT EXISTS blocked_phone_digest bytea")
        add_check(
            "accounts",
            "ck_accounts_blocked_phone_digest",
            "blocked_phone_digest IS NULL OR removed_at IS NOT NULL",
        )
        create_index(
            "ix_accounts_blocked_phone_digest",
            "accounts (blocked_phone_digest) WHERE blocked_phone_digest IS NOT NULL",
        )
