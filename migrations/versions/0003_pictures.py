"""Pictures."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
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
    op.execute(
        "CREATE INDEX ix_pictures_unclaimed ON pictures (created_at) WHERE account_id IS NULL"
    )
