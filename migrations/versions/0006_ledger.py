"""The coin ledger. Its transfers and gifts can be added and never changed."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE coin_accounts (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_coin_accounts PRIMARY KEY,
            owner_id bigint CONSTRAINT uq_coin_accounts_owner_id UNIQUE
                CONSTRAINT fk_coin_accounts_owner_id REFERENCES accounts (id),
            provider varchar(30) CONSTRAINT uq_coin_accounts_provider UNIQUE,
            CONSTRAINT ck_coin_accounts_owner_or_provider
                CHECK ((owner_id IS NULL) <> (provider IS NULL))
        )
    """)
    op.execute("""
        CREATE TABLE coin_slots (
            coin_account_id bigint
                CONSTRAINT fk_coin_slots_coin_account_id REFERENCES coin_accounts (id),
            slot smallint CONSTRAINT ck_coin_slots_slot CHECK (slot BETWEEN 0 AND 16),
            amount bigint NOT NULL DEFAULT 0
                CONSTRAINT ck_coin_slots_amount CHECK (amount >= 0),
            CONSTRAINT pk_coin_slots PRIMARY KEY (coin_account_id, slot)
        ) WITH (fillfactor = 70)
    """)
    op.execute("""
        CREATE TABLE transfers (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_transfers PRIMARY KEY,
            kind smallint NOT NULL CONSTRAINT ck_transfers_kind CHECK (kind IN (1, 2, 9)),
            debit_id bigint NOT NULL
                CONSTRAINT fk_transfers_debit_id REFERENCES coin_accounts (id),
            credit_id bigint NOT NULL
                CONSTRAINT fk_transfers_credit_id REFERENCES coin_accounts (id),
            amount bigint NOT NULL CONSTRAINT ck_transfers_amount CHECK (amount > 0),
            actor_id bigint NOT NULL
                CONSTRAINT fk_transfers_actor_id REFERENCES coin_accounts (id),
            request_id uuid NOT NULL,
            reverses_id bigint CONSTRAINT uq_transfers_reverses_id UNIQUE
                CONSTRAINT fk_transfers_reverses_id REFERENCES transfers (id),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_transfers_actor_id_request_id UNIQUE (actor_id, request_id),
            CONSTRAINT ck_transfers_two_sides CHECK (debit_id <> credit_id),
            CONSTRAINT ck_transfers_reverses CHECK ((kind = 9) = (reverses_id IS NOT NULL))
        )
    """)
    op.execute("CREATE INDEX ix_transfers_debit_id_id ON transfers (debit_id, id)")
    op.execute("CREATE INDEX ix_transfers_credit_id_id ON transfers (credit_id, id)")
    op.execute("""
        CREATE TABLE gifts (
            transfer_id bigint CONSTRAINT pk_gifts PRIMARY KEY
                CONSTRAINT fk_gifts_transfer_id REFERENCES transfers (id),
            host_id bigint NOT NULL,
            room_id bigint,
            description varchar(200) NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE payment_orders (
            provider varchar(30),
            order_id varchar(64),
            account_id bigint NOT NULL
                CONSTRAINT fk_payment_orders_account_id REFERENCES accounts (id),
            request_id uuid NOT NULL,
            fen integer NOT NULL,
            coins integer NOT NULL,
            state varchar(7) NOT NULL DEFAULT 'pending'
                CONSTRAINT ck_payment_orders_state CHECK (state IN ('pending', 'paid')),
            transfer_id bigint CONSTRAINT uq_payment_orders_transfer_id UNIQUE
                CONSTRAINT fk_payment_orders_transfer_id REFERENCES transfers (id),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_payment_orders PRIMARY KEY (provider, order_id),
            CONSTRAINT uq_payment_orders_account_id_request_id UNIQUE (account_id, request_id),
            CONSTRAINT ck_payment_orders_amounts CHECK (fen > 0 AND coins > 0),
            CONSTRAINT ck_payment_orders_transfer
                CHECK ((state = 'paid') = (transfer_id IS NOT NULL))
        )
    """)
    op.execute("""
        CREATE TABLE seals (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_seals PRIMARY KEY,
            through_id bigint NOT NULL CONSTRAINT uq_seals_through_id UNIQUE
                CONSTRAINT fk_seals_through_id REFERENCES transfers (id),
            transfers bigint NOT NULL,
            amount_sum bigint NOT NULL,
            sha256 bytea NOT NULL,
            previous_sha256 bytea,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE closings (
            seal_id bigint CONSTRAINT fk_closings_seal_id REFERENCES seals (id),
            coin_account_id bigint
                CONSTRAINT fk_closings_coin_account_id REFERENCES coin_accounts (id),
            delta bigint NOT NULL,
            CONSTRAINT pk_closings PRIMARY KEY (seal_id, coin_account_id)
        )
    """)
    # Double entry, for whoever reports: two rows for each transfer, which add up to nothing.
    op.execute("""
        CREATE VIEW entries AS
            SELECT id AS transfer_id, debit_id AS coin_account_id, -amount AS amount, created_at
            FROM transfers
            UNION ALL
            SELECT id, credit_id, amount, created_at FROM transfers
    """)
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% of % refused: what is booked stays booked, reverse it instead',
                TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END $$
    """)
    for table in ("transfers", "gifts"):
        op.execute(f"""
            CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """)
