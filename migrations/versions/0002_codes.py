"""Codes sent to phones, and wrong tries at them."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE codes (
            id uuid CONSTRAINT pk_codes PRIMARY KEY,
            phone varchar(11) NOT NULL
                CONSTRAINT ck_codes_phone CHECK (phone ~ '^[0-9]{11}$'),
            digest bytea NOT NULL,
            state varchar(8) NOT NULL DEFAULT 'unsent' CONSTRAINT ck_codes_state
                CHECK (state IN ('unsent', 'sent', 'void', 'verified', 'spent')),
            expires_at timestamptz NOT NULL,
            verified_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_codes_verified_at
                CHECK ((state IN ('verified', 'spent')) = (verified_at IS NOT NULL))
        )
    """)
    op.execute("CREATE INDEX ix_codes_sent ON codes (expires_at) WHERE state = 'sent'")
    op.execute("CREATE INDEX ix_codes_verified ON codes (phone) WHERE state = 'verified'")
    op.execute("""
        CREATE TABLE code_tries (
            code_v_digest bytea CONSTRAINT pk_code_tries PRIMARY KEY,
            tried_at timestamptz[] NOT NULL
                CONSTRAINT ck_code_tries_tried_at CHECK (cardinality(tried_at) BETWEEN 1 AND 100),
            last_tried_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX ix_code_tries_last_tried_at ON code_tries (last_tried_at)")
