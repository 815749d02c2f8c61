"""Indexes that find the closed rooms and the unpaid orders that housekeeping deletes."""

from alembic import op

revision = "1003"
down_revision = "1002"


def upgrade() -> None:
    op.execute("""
        CREATE INDEX ix_rooms_disabled ON rooms (closed_at)
            WHERE state = 'closed' AND disabled_at IS NOT NULL
    """)
    op.execute("""
        CREATE INDEX ix_payment_orders_unpaid ON payment_orders (created_at)
            WHERE state IN ('pending', 'closed')
    """)
