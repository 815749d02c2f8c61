"""Indexes of the closed rooms and unpaid orders that housekeeping deletes."""

from livebackend.database.online_migrations import create_index, separate_transactions

revision = "1003"
down_revision = "1002"


def upgrade() -> None:
    with separate_transactions():
        create_index(
            "ix_rooms_disabled",
            "rooms (closed_at) WHERE state = 'closed' AND disabled_at IS NOT NULL",
        )
        create_index(
            "ix_payment_orders_unpaid",
            "payment_orders (created_at) WHERE state IN ('pending', 'closed')",
        )
