"""Leases for work that only one process does at a time."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class ProcessLease(Base):
    """A lease: until it expires, only its holder may do the work with this name."""

    __tablename__ = "process_leases"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    # A random id that the process generates at its start.
    holder: Mapped[str] = mapped_column(String(50))
    # The time at which the lease expires if its holder does not renew it. After this time, any
    # process can acquire the lease.
    expires_at: Mapped[datetime]
