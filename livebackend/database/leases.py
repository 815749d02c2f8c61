"""Expiring leases in the database, so that only one process at a time runs a task."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

_ACQUIRE = text(
    """
    INSERT INTO process_leases AS l (name, holder, expires_at)
    VALUES (:name, :holder, clock_timestamp() + make_interval(secs => :ttl_s))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE l.holder = excluded.holder OR l.expires_at <= clock_timestamp()
    RETURNING true
    """
)
_SELECT_REMAINING_S = text(
    """
    SELECT greatest(0, extract(epoch FROM expires_at - clock_timestamp()))::float8
    FROM process_leases WHERE name = :name
    """
)
_RELEASE = text("DELETE FROM process_leases WHERE name = :name AND holder = :holder")


@dataclass(frozen=True)
class Lease:
    """A named lease of one holder; expires `ttl_s` seconds after the last `acquire`."""

    name: str
    holder: str
    ttl_s: float

    def acquire(self, connection: Connection) -> float:
        """Acquire or renew the lease.

        Returns 0 on success, otherwise the seconds until the lease of the other holder can expire.
        """
        values = {"name": self.name, "holder": self.holder, "ttl_s": self.ttl_s}
        if connection.execute(_ACQUIRE, values).one_or_none():
            return 0.0
        remaining_s = connection.execute(
            _SELECT_REMAINING_S, {"name": self.name}
        ).scalar_one_or_none()
        # The lease can have ended since the first statement. Then the result is 0.1 s, because 0
        # means success.
        return max(0.1, remaining_s or 0.0)

    def release(self, connection: Connection) -> None:
        """Release the lease, unless another holder has acquired it."""
        connection.execute(_RELEASE, {"name": self.name, "holder": self.holder})
