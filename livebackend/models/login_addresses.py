"""Client addresses from which accounts have logged in."""

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from livebackend.models.base import Base


class LoginAddresses(Base):
    """The last client addresses from which an account has logged in, newest first."""

    __tablename__ = "login_addresses"
    __table_args__ = (CheckConstraint("cardinality(digests) BETWEEN 1 AND 10", name="digests"),)

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    # Keyed digests of the account and the address.
    digests: Mapped[list[str]] = mapped_column(ARRAY(String(16)))
