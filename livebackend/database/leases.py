"""Leases: what one server process at a time does. They end by time, not with a connection."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

_TAKE = text(
    """
    INSERT INTO process_leases AS l (name, holder, expires_at)
    VALUES (:name, :holder, clock_timestamp() + make_interval(secs => :ttl_s))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE l.holder = excluded.holder OR l.expires_at <= clock_timestamp()
    RETURNING true
    """
)
_LEFT = text(
    """
    SELECT greatest(0, extract(epoch FROM expires_at - clock_timestamp()))::float8
    FROM process_leases WHERE name = :name
    """
)
_GIVE_BACK = text("DELETE FROM process_leases WHERE name = :name AND holder = :holder")


@dataclass(frozen=True)
class Lease:
    """A right that `holder` takes for `ttl_s` at a time; without him it ends by itself."""

    name: str
    holder: str
    ttl_s: float

    def take(self, connection: Connection) -> float:
        """Takes or prolongs it; returns 0, or in how many seconds another's may end."""
        values = {"name": self.name, "holder": self.holder, "ttl_s": self.ttl_s}
        if connection.execute(_TAKE, values).one_or_none():
            return 0.0
        left = connection.execute(_LEFT, {"name": self.name}).scalar_one_or_none()
        # One that has just ended is still another's to prolong.
        return max(0.1, left or 0.0)

    def give_back(self, connection: Connection) -> None:
        connection.execute(_GIVE_BACK, {"name": self.name, "holder": self.holder})
