"""What one server process at a time does, and which one it is."""

from datetime import datetime

from sqlalchemy import Column, DateTime, String, Table, TypedColumns

from livebackend.models.metadata import metadata


class _Leases(TypedColumns):
    name = Column(String(50), primary_key=True)
    # A name that the process made up for itself.
    holder = Column(String(50), nullable=False)
    # A holder that is gone holds nothing for longer than this.
    expires_at: Column[datetime] = Column(DateTime(timezone=True), nullable=False)


leases = Table("leases", metadata, _Leases)
