"""Whoever ends an account finds all its requests and rooms without reading everybody's."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    for side in ("applicant", "addressee"):
        # Of the copies that were kept, it was; the lists read past the few others.
        op.execute(f"DROP INDEX ix_friend_requests_{side}")
        op.execute(
            f"CREATE INDEX ix_friend_requests_{side} ON friend_requests ({side}_id, sent_at_us)"
        )
    op.execute("CREATE INDEX ix_rooms_account_id ON rooms (account_id)")
