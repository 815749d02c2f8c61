"""The schema of the first release."""

from alembic import op

# Development versions used the revisions 0001 to 0015: do not reuse them.
revision = "1001"
down_revision = None


def upgrade() -> None:
    _create_accounts()
    _create_verification_codes()
    _create_pictures()
    _create_friends()
    _create_rooms()
    _create_ledger()
    _create_payment_orders()
    _create_process_tables()
    _make_ledger_append_only()


def _create_accounts() -> None:
    op.execute("""
        CREATE TABLE accounts (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_accounts PRIMARY KEY,
            phone varchar(11) CONSTRAINT uq_accounts_phone UNIQUE
                CONSTRAINT ck_accounts_phone CHECK (phone ~ '^[0-9]{11}$'),
            password_hash varchar(60) NOT NULL,
            gender varchar(1) CONSTRAINT ck_accounts_gender CHECK (gender IN ('0', '1')),
            nickname varchar(32) CONSTRAINT ck_accounts_nickname CHECK (nickname <> ''),
            head_image varchar(255),
            token_version integer NOT NULL DEFAULT 1,
            created_at timestamptz NOT NULL DEFAULT now(),
            disabled_at timestamptz,
            removed_at timestamptz,
            CONSTRAINT ck_accounts_removed CHECK ((phone IS NULL) = (removed_at IS NOT NULL)),
            CONSTRAINT ck_accounts_removed_profile CHECK (removed_at IS NULL
                OR (nickname IS NULL AND gender IS NULL AND head_image IS NULL))
        )
    """)
    op.execute("""
        CREATE TABLE revoked_tokens (
            token_id varchar(32) CONSTRAINT pk_revoked_tokens PRIMARY KEY,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_revoked_tokens_expires_at ON revoked_tokens (expires_at)")


def _create_verification_codes() -> None:
    op.execute("""
        CREATE TABLE verification_codes (
            id uuid CONSTRAINT pk_verification_codes PRIMARY KEY,
            phone varchar(11) NOT NULL
                CONSTRAINT ck_verification_codes_phone CHECK (phone ~ '^[0-9]{11}$'),
            purpose varchar(8) NOT NULL DEFAULT 'register'
                CONSTRAINT ck_verification_codes_purpose CHECK (purpose IN ('register', 'reset')),
            digest bytea NOT NULL,
            state varchar(8) NOT NULL DEFAULT 'unsent' CONSTRAINT ck_verification_codes_state
                CHECK (state IN ('unsent', 'sent', 'failed', 'verified', 'used')),
            expires_at timestamptz NOT NULL,
            verified_at timestamptz,
            attempts smallint NOT NULL DEFAULT 0
                CONSTRAINT ck_verification_codes_attempts CHECK (attempts BETWEEN 0 AND 5),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_verification_codes_verified_at
                CHECK ((state IN ('verified', 'used')) = (verified_at IS NOT NULL))
        )
    """)
    op.execute("""
        CREATE INDEX ix_verification_codes_sent ON verification_codes (expires_at)
            WHERE state = 'sent'
    """)
    op.execute("CREATE INDEX ix_verification_codes_phone ON verification_codes (phone)")
    op.execute("CREATE INDEX ix_verification_codes_expires_at ON verification_codes (expires_at)")
    op.execute("""
        CREATE INDEX ix_verification_codes_verified ON verification_codes (phone)
            WHERE state = 'verified'
    """)
    op.execute("""
        CREATE TABLE code_attempts (
            ticket_digest bytea CONSTRAINT pk_code_attempts PRIMARY KEY,
            attempted_at timestamptz[] NOT NULL CONSTRAINT ck_code_attempts_attempted_at
                CHECK (cardinality(attempted_at) BETWEEN 1 AND 100),
            last_attempted_at timestamptz NOT NULL
        )
    """)
    op.execute(
        "CREATE INDEX ix_code_attempts_last_attempted_at ON code_attempts (last_attempted_at)"
    )


def _create_pictures() -> None:
    op.execute("""
        CREATE TABLE pictures (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_pictures PRIMARY KEY,
            location varchar(255) NOT NULL CONSTRAINT uq_pictures_location UNIQUE
                CONSTRAINT ck_pictures_location CHECK (location <> ''),
            account_id bigint CONSTRAINT fk_pictures_account_id REFERENCES accounts (id),
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX ix_pictures_account_id ON pictures (account_id)")
    op.execute("CREATE INDEX ix_pictures_unused ON pictures (created_at) WHERE account_id IS NULL")


def _create_friends() -> None:
    op.execute("""
        CREATE TABLE friendships (
            account_id bigint CONSTRAINT fk_friendships_account_id REFERENCES accounts (id),
            friend_id bigint CONSTRAINT fk_friendships_friend_id REFERENCES accounts (id),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_friendships PRIMARY KEY (account_id, friend_id),
            CONSTRAINT fk_friendships_friend_id_account_id FOREIGN KEY (friend_id, account_id)
                REFERENCES friendships (account_id, friend_id),
            CONSTRAINT ck_friendships_distinct_accounts CHECK (account_id <> friend_id)
        )
    """)
    op.execute("""
        CREATE TABLE blocks (
            account_id bigint CONSTRAINT fk_blocks_account_id REFERENCES accounts (id),
            blocked_id bigint CONSTRAINT fk_blocks_blocked_id REFERENCES accounts (id),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_blocks PRIMARY KEY (account_id, blocked_id),
            CONSTRAINT ck_blocks_distinct_accounts CHECK (account_id <> blocked_id)
        )
    """)
    op.execute("CREATE INDEX ix_blocks_blocked_id ON blocks (blocked_id)")
    op.execute("""
        CREATE TABLE friend_requests (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_friend_requests PRIMARY KEY,
            applicant_id bigint NOT NULL
                CONSTRAINT fk_friend_requests_applicant_id REFERENCES accounts (id),
            addressee_id bigint NOT NULL
                CONSTRAINT fk_friend_requests_addressee_id REFERENCES accounts (id),
            state varchar(8) NOT NULL DEFAULT 'open' CONSTRAINT ck_friend_requests_state
                CHECK (state IN ('open', 'accepted', 'declined')),
            sent_at_us bigint NOT NULL
                DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
                CONSTRAINT uq_friend_requests_sent_at_us UNIQUE,
            applicant_visible boolean NOT NULL DEFAULT true,
            addressee_visible boolean NOT NULL DEFAULT true,
            CONSTRAINT ck_friend_requests_distinct_accounts CHECK (applicant_id <> addressee_id)
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_friend_requests_open
            ON friend_requests (applicant_id, addressee_id) WHERE state = 'open'
    """)
    # The indexes are not partial (WHERE applicant_visible), because the removal of an account reads
    # all its friend requests.
    op.execute("""
        CREATE INDEX ix_friend_requests_applicant ON friend_requests (applicant_id, sent_at_us)
    """)
    op.execute("""
        CREATE INDEX ix_friend_requests_addressee ON friend_requests (addressee_id, sent_at_us)
    """)


def _create_rooms() -> None:
    op.execute("""
        CREATE TABLE rooms (
            id bigint GENERATED BY DEFAULT AS IDENTITY CONSTRAINT pk_rooms PRIMARY KEY,
            account_id bigint NOT NULL CONSTRAINT fk_rooms_account_id REFERENCES accounts (id),
            title varchar(100),
            state varchar(7) NOT NULL DEFAULT 'opening'
                CONSTRAINT ck_rooms_state CHECK (state IN ('opening', 'open', 'closed')),
            stream_key varchar(100) NOT NULL CONSTRAINT uq_rooms_stream_key UNIQUE,
            publish_key varchar(100) NOT NULL,
            stream varchar(8000),
            play_urls jsonb,
            started_at timestamptz NOT NULL DEFAULT now(),
            stream_seen_at timestamptz NOT NULL DEFAULT now(),
            offline_since timestamptz,
            provider_checked_at timestamptz,
            publisher varchar(64),
            published_at timestamptz,
            closed_at timestamptz,
            close_reason varchar(20),
            disabled_at timestamptz,
            disable_attempts smallint NOT NULL DEFAULT 0,
            disable_retry_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_rooms_stream
                CHECK (state <> 'open' OR (stream IS NOT NULL AND play_urls IS NOT NULL)),
            CONSTRAINT ck_rooms_closed_at CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
            CONSTRAINT ck_rooms_close_reason CHECK ((closed_at IS NULL) = (close_reason IS NULL)),
            CONSTRAINT ck_rooms_published_at CHECK ((publisher IS NULL) = (published_at IS NULL))
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_rooms_not_closed ON rooms (account_id) WHERE state <> 'closed'
    """)
    op.execute("CREATE INDEX ix_rooms_open ON rooms (started_at, id) WHERE state = 'open'")
    op.execute("""
        CREATE INDEX ix_rooms_to_disable ON rooms (disable_retry_at)
            WHERE state = 'closed' AND disabled_at IS NULL
    """)
    op.execute("CREATE INDEX ix_rooms_account_id ON rooms (account_id)")


def _create_ledger() -> None:
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
    # The maximum of a slot is (2^63 - 1) / 17, so that the sum of 17 slots fits into a bigint.
    op.execute("""
        CREATE TABLE coin_slots (
            coin_account_id bigint
                CONSTRAINT fk_coin_slots_coin_account_id REFERENCES coin_accounts (id),
            slot smallint CONSTRAINT ck_coin_slots_slot CHECK (slot BETWEEN 0 AND 16),
            amount bigint NOT NULL DEFAULT 0 CONSTRAINT ck_coin_slots_amount
                CHECK (amount BETWEEN 0 AND 542551296285575047),
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
            CONSTRAINT ck_transfers_distinct_accounts CHECK (debit_id <> credit_id),
            CONSTRAINT ck_transfers_reverses CHECK ((kind = 9) = (reverses_id IS NOT NULL))
        )
    """)
    op.execute("CREATE INDEX ix_transfers_debit_id_id ON transfers (debit_id, id)")
    op.execute("CREATE INDEX ix_transfers_credit_id_id ON transfers (credit_id, id)")
    # host_id and room_id have no foreign keys, whose checks would lock rows of accounts and rooms.
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
        CREATE TABLE reversal_requests (
            transfer_id bigint CONSTRAINT pk_reversal_requests PRIMARY KEY
                CONSTRAINT fk_reversal_requests_transfer_id REFERENCES transfers (id),
            reason varchar(200) NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE ledger_checkpoints (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_ledger_checkpoints PRIMARY KEY,
            through_id bigint NOT NULL CONSTRAINT uq_ledger_checkpoints_through_id UNIQUE
                CONSTRAINT fk_ledger_checkpoints_through_id REFERENCES transfers (id),
            transfers bigint NOT NULL,
            amount_sum bigint NOT NULL,
            sha256 bytea NOT NULL,
            previous_sha256 bytea,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE checkpoint_balances (
            checkpoint_id bigint CONSTRAINT fk_checkpoint_balances_checkpoint_id
                REFERENCES ledger_checkpoints (id),
            coin_account_id bigint CONSTRAINT fk_checkpoint_balances_coin_account_id
                REFERENCES coin_accounts (id),
            delta bigint NOT NULL,
            CONSTRAINT pk_checkpoint_balances PRIMARY KEY (checkpoint_id, coin_account_id)
        )
    """)
    # Double-entry view for reports: two rows for each transfer, with a sum of zero.
    op.execute("""
        CREATE VIEW entries AS
            SELECT id AS transfer_id, debit_id AS coin_account_id, -amount AS amount, created_at
            FROM transfers
            UNION ALL
            SELECT id, credit_id, amount, created_at FROM transfers
    """)


def _create_payment_orders() -> None:
    op.execute("""
        CREATE TABLE payment_orders (
            provider varchar(30),
            order_id varchar(64) CONSTRAINT uq_payment_orders_order_id UNIQUE,
            account_id bigint NOT NULL
                CONSTRAINT fk_payment_orders_account_id REFERENCES accounts (id),
            request_id uuid NOT NULL,
            fen integer NOT NULL,
            coins integer NOT NULL,
            state varchar(9) NOT NULL DEFAULT 'pending' CONSTRAINT ck_payment_orders_state
                CHECK (state IN ('pending', 'paid', 'closed', 'refunding', 'refunded')),
            transfer_id bigint CONSTRAINT uq_payment_orders_transfer_id UNIQUE
                CONSTRAINT fk_payment_orders_transfer_id REFERENCES transfers (id),
            created_at timestamptz NOT NULL DEFAULT now(),
            payment_id varchar(64),
            paid_at timestamptz,
            refund_reason varchar(200),
            query_attempts integer NOT NULL DEFAULT 0,
            next_query_at timestamptz DEFAULT now() + interval '30 seconds',
            CONSTRAINT pk_payment_orders PRIMARY KEY (provider, order_id),
            CONSTRAINT uq_payment_orders_request_id_account_id UNIQUE (request_id, account_id),
            CONSTRAINT uq_payment_orders_provider_payment_id UNIQUE (provider, payment_id),
            CONSTRAINT ck_payment_orders_amounts CHECK (fen > 0 AND coins > 0),
            CONSTRAINT ck_payment_orders_transfer
                CHECK ((state IN ('pending', 'closed')) = (transfer_id IS NULL)),
            CONSTRAINT ck_payment_orders_payment
                CHECK ((transfer_id IS NULL) = (payment_id IS NULL)),
            CONSTRAINT ck_payment_orders_refund
                CHECK ((state IN ('refunding', 'refunded')) = (refund_reason IS NOT NULL))
        )
    """)
    op.execute("""
        CREATE INDEX ix_payment_orders_next_query_at ON payment_orders (next_query_at)
            WHERE state IN ('pending', 'refunding')
    """)
    op.execute("CREATE INDEX ix_payment_orders_created_at ON payment_orders (created_at)")
    op.execute("CREATE INDEX ix_payment_orders_paid_at ON payment_orders (paid_at)")


def _create_process_tables() -> None:
    op.execute("""
        CREATE TABLE process_leases (
            name varchar(50) CONSTRAINT pk_process_leases PRIMARY KEY,
            holder varchar(50) NOT NULL,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE UNLOGGED TABLE rate_limit_windows (
            key varchar(200) CONSTRAINT pk_rate_limit_windows PRIMARY KEY,
            hits timestamptz[] NOT NULL
                CONSTRAINT ck_rate_limit_windows_hits CHECK (cardinality(hits) >= 1),
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_rate_limit_windows_expires_at ON rate_limit_windows (expires_at)")


def _make_ledger_append_only() -> None:
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% of % refused: ledger rows are never changed; reverse the transfer',
                TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END $$
    """)
    for table in (
        "transfers",
        "gifts",
        "reversal_requests",
        "ledger_checkpoints",
        "checkpoint_balances",
    ):
        op.execute(f"""
            CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """)
