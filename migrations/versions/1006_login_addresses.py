"""Client addresses of earlier logins."""

from alembic import op

revision = "1006"
down_revision = "1005"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE login_addresses (
            account_id bigint CONSTRAINT pk_login_addresses PRIMARY KEY
                CONSTRAINT fk_login_addresses_account_id REFERENCES accounts,
            digests varchar(16)[] NOT NULL,
            CONSTRAINT ck_login_addresses_digests CHECK (cardinality(digests) BETWEEN 1 AND 10)
        )
    """)
