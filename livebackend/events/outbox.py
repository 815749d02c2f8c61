"""The outbox: events that are stored in the transaction that causes them."""

from sqlalchemy import Connection, text

from livebackend.database.prepared_statements import PreparedStatement
from livebackend.events.declarations import EventType

_APPEND = PreparedStatement(
    text(
        """
    INSERT INTO outbox_events (type, account_id, subject_id, detail)
    VALUES (:type, :account_id, :subject_id, :detail)
    """
    )
)
_OUTBOX_SIZE = text(
    """
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
    FROM outbox_events
    """
)


class Outbox:
    """Appends events, or does nothing unless `enabled`.

    The ledger appends the events of its transfers itself, in the statement that inserts them.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled

    def append(
        self,
        connection: Connection,
        event_type: EventType,
        *,
        account_id: int,
        subject_id: int | None = None,
        detail: str | None = None,
    ) -> None:
        """Append an event in the caller's transaction.

        `account_id` is the receiver or, for an event to friends, the account whose friends receive
        it. `subject_id` is the id of the other account or of the room.
        """
        if self.enabled:
            values = {
                "type": event_type.value,
                "account_id": account_id,
                "subject_id": subject_id,
                "detail": detail,
            }
            _APPEND.run(connection, values)


def outbox_size(connection: Connection) -> tuple[int, float]:
    """Return the number of rows in the outbox, and the age of the oldest in seconds."""
    row_count, oldest_s = connection.execute(_OUTBOX_SIZE).one()
    return row_count, oldest_s
