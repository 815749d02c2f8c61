"""What is known of a room's stream, and when to ask its provider again."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE rooms
            ADD COLUMN seen_at timestamptz,
            ADD COLUMN absent_since timestamptz,
            ADD COLUMN looked_at timestamptz,
            ADD COLUMN publisher varchar(64),
            ADD COLUMN published_at timestamptz,
            ADD COLUMN disable_tries smallint NOT NULL DEFAULT 0,
            ADD COLUMN disable_after timestamptz NOT NULL DEFAULT now(),
            ADD CONSTRAINT ck_rooms_published_at
                CHECK ((publisher IS NULL) = (published_at IS NULL))
    """)
    op.execute("UPDATE rooms SET seen_at = coalesce(closed_at, started_at)")
    # The code that still runs knows nothing of it.
    op.execute("""
        ALTER TABLE rooms
            ALTER COLUMN seen_at SET DEFAULT now(),
            ALTER COLUMN seen_at SET NOT NULL
    """)
    op.execute("CREATE INDEX ix_rooms_open ON rooms (started_at, id) WHERE state = 'open'")
    op.execute("""
        CREATE INDEX ix_rooms_to_disable ON rooms (disable_after)
            WHERE state = 'closed' AND disabled_at IS NULL
    """)
