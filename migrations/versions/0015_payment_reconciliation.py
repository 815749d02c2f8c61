"""Payment orders are reconciled with the provider, can be closed and refunded."""

from alembic import op

revision = "0015"
down_revision = "0014"

# 17 slots of this size add up to less than 2^63, so no balance overflows.
_SLOT_MAX = (2**63 - 1) // 17


def upgrade() -> None:
    # First, as transfers lock slots before orders.
    op.execute(
        f"""
        ALTER TABLE coin_slots
            DROP CONSTRAINT ck_coin_slots_amount,
            ADD CONSTRAINT ck_coin_slots_amount CHECK (amount BETWEEN 0 AND {_SLOT_MAX})
        """
    )
    op.execute("ALTER TABLE payment_orders ALTER COLUMN state TYPE varchar(9)")
    op.execute(
        """
        ALTER TABLE payment_orders
            ADD COLUMN paid_at timestamptz,
            ADD COLUMN refund_reason varchar(200),
            ADD COLUMN query_attempts integer NOT NULL DEFAULT 0,
            ADD COLUMN next_query_at timestamptz DEFAULT now() + interval '30 seconds',
            DROP CONSTRAINT ck_payment_orders_state,
            DROP CONSTRAINT ck_payment_orders_transfer,
            DROP CONSTRAINT ck_payment_orders_payment,
            ADD CONSTRAINT ck_payment_orders_state
                CHECK (state IN ('pending', 'paid', 'closed', 'refunding', 'refunded')),
            ADD CONSTRAINT ck_payment_orders_transfer
                CHECK ((state IN ('pending', 'closed')) = (transfer_id IS NULL)),
            ADD CONSTRAINT ck_payment_orders_payment
                CHECK ((transfer_id IS NULL) = (payment_id IS NULL)),
            ADD CONSTRAINT uq_payment_orders_order_id UNIQUE (order_id),
            ADD CONSTRAINT ck_payment_orders_refund
                CHECK ((state IN ('refunding', 'refunded')) = (refund_reason IS NOT NULL))
        """
    )
    op.execute(
        """
        CREATE INDEX ix_payment_orders_next_query_at ON payment_orders (next_query_at)
            WHERE state IN ('pending', 'refunding')
        """
    )
    op.execute("CREATE INDEX ix_payment_orders_created_at ON payment_orders (created_at)")
    op.execute("CREATE INDEX ix_payment_orders_paid_at ON payment_orders (paid_at)")
    op.execute(
        """
        UPDATE payment_orders SET paid_at = transfers.created_at
        FROM transfers WHERE transfers.id = transfer_id
        """
    )
