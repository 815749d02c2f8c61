"""What settled an order, and reversals that were asked for; seals stay as they were written."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    # A provider's own id of the payment: one payment settles one order.
    op.execute("""
        ALTER TABLE payment_orders
            ADD COLUMN payment_id varchar(64),
            ADD CONSTRAINT uq_payment_orders_provider_payment_id UNIQUE (provider, payment_id),
            ADD CONSTRAINT ck_payment_orders_payment
                CHECK ((state = 'paid') = (payment_id IS NOT NULL))
    """)
    # The other way round, so that the ledger finds an order by the request alone.
    op.execute("""
        ALTER TABLE payment_orders
            DROP CONSTRAINT uq_payment_orders_account_id_request_id,
            ADD CONSTRAINT uq_payment_orders_request_id_account_id
                UNIQUE (request_id, account_id)
    """)
    op.execute("""
        CREATE TABLE reversals (
            transfer_id bigint CONSTRAINT pk_reversals PRIMARY KEY
                CONSTRAINT fk_reversals_transfer_id REFERENCES transfers (id),
            reason varchar(200) NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    for table in ("reversals", "seals", "closings"):
        op.execute(f"""
            CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """)
