"""Live events: the outbox, numbered events, and channels."""

from alembic import op

revision = "1009"
down_revision = "1008"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE outbox_events (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_outbox_events PRIMARY KEY,
            type varchar(30) NOT NULL,
            account_id bigint,
            subject_id bigint,
            transfer_ids bigint[],
            detail varchar(200),
            numbered_through_id bigint NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
    """)
    op.execute("""
        CREATE INDEX ix_outbox_events_closing ON outbox_events (id)
        WHERE type IN ('account_disabled', 'login_revoked')
    """)
    op.execute("""
        CREATE TABLE event_batches (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_event_batches PRIMARY KEY,
            lines text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
    """)
    op.execute("""
        CREATE TABLE event_channels (
            name varchar(40) CONSTRAINT pk_event_channels PRIMARY KEY,
            seq bigint NOT NULL DEFAULT 0,
            opened_at timestamptz NOT NULL DEFAULT now()
        ) WITH (fillfactor = 70)
    """)
