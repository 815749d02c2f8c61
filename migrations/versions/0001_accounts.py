"""Accounts."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE accounts (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_accounts PRIMARY KEY,
            phone varchar(11) NOT NULL CONSTRAINT uq_accounts_phone UNIQUE
                CONSTRAINT ck_accounts_phone CHECK (phone ~ '^[0-9]{11}$'),
            password_hash varchar(60) NOT NULL,
            gender varchar(1) CONSTRAINT ck_accounts_gender CHECK (gender IN ('0', '1')),
            nickname varchar(32) CONSTRAINT ck_accounts_nickname CHECK (nickname <> ''),
            head_image varchar(255),
            token_version integer NOT NULL DEFAULT 1,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
