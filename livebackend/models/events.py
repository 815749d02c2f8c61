"""Live events: the outbox, numbered events that are not yet published, and channels."""

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, Identity, Index, String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class OutboxEvent(Base):
    """One or more events that have no numbers yet, inserted by the transaction that caused them.

    Except for the text of a warning, it has ids only: the relay reads the data of an event when it
    numbers it. The columns have no foreign keys, because foreign key checks would lock rows that
    other transactions update.
    """

    __tablename__ = "outbox_events"
    __table_args__ = (
        Index(
            "ix_outbox_events_closing",
            "id",
            postgresql_where=text("type IN ('account_disabled', 'login_revoked')"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # The name of a declared event type.
    type: Mapped[str] = mapped_column(String(30))
    # The account whose channel receives the event or, for an event to friends, the account whose
    # friends receive it. NULL if the receivers follow from the transfers.
    account_id: Mapped[int | None]
    # The id of the other account or of the room that the event is about.
    subject_id: Mapped[int | None]
    # The transfers of one batch of the ledger. Each has an event for each of its users.
    transfer_ids: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    # The text of a warning.
    detail: Mapped[str | None] = mapped_column(String(200))
    # For an event to friends: the id of the last friend for whom the event has been numbered.
    numbered_through_id: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class EventBatch(Base):
    """Numbered events, which are published in the order of their lines, then deleted."""

    __tablename__ = "event_batches"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # The JSON of each event, one line each.
    lines: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class EventChannel(Base):
    """A channel that a client has opened, with the number of its last event."""

    __tablename__ = "event_channels"
    # Free space in each page lets PostgreSQL update rows without writing the index (HOT).
    __table_args__ = ({"postgresql_with": {"fillfactor": 70}},)

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    seq: Mapped[int] = mapped_column(server_default=text("0"))
    # The time at which a client last opened the channel.
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
