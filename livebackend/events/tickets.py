"""Tickets: signed texts in the URLs of event streams, which open connections only."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from livebackend.core.signing import Signer

_TTL_S = 60
# No account has this id. The channel of this user exists for `livebackend doctor`.
_PROBE_ACCOUNT_ID = 0
# The names of the claims in a ticket, in the order of the fields of EventTicket, and their types.
_CLAIMS, _CLAIM_TYPES = ("jti", "sub", "v", "exp"), (str, int, int, int)


class EventTicket(NamedTuple):
    """The content of a ticket: the login token for which it was issued, and its expiry."""

    token_id: str
    account_id: int
    token_version: int
    # In seconds since 1970 UTC.
    expires_at: int

    @property
    def issued_at(self) -> int:
        """The time of the issue or, if the login token expires soon, an earlier one."""
        return self.expires_at - _TTL_S

    @property
    def is_probe(self) -> bool:
        """Whether the ticket belongs to no user, but tests the event stream."""
        return self.account_id == _PROBE_ACCOUNT_ID


class IssuedTicket(NamedTuple):
    """The text of a ticket, and the seconds until it expires."""

    text: str
    expires_in_s: int


class EventTickets:
    """Issues and verifies tickets. They expire soon, because URLs can get into logs."""

    def __init__(self, secrets: Sequence[str], *, clock: Callable[[], float]) -> None:
        self._signer = Signer(secrets, kind="events")
        self._clock = clock

    def issue(
        self, *, token_id: str, account_id: int, token_version: int, token_expires_at: int
    ) -> IssuedTicket:
        """Return a ticket for a login token, with which it expires at the latest."""
        now = int(self._clock())
        ticket = EventTicket(
            token_id, account_id, token_version, min(now + _TTL_S, token_expires_at)
        )
        claims = dict(zip(_CLAIMS, ticket, strict=True))
        text = self._signer.sign({"typ": "events", **claims})
        return IssuedTicket(text, max(0, ticket.expires_at - now))

    def issue_probe(self) -> str:
        """Return a ticket for the channel that `livebackend doctor` uses."""
        expires_at = int(self._clock()) + _TTL_S
        return self.issue(
            token_id="",
            account_id=_PROBE_ACCOUNT_ID,
            token_version=0,
            token_expires_at=expires_at,
        ).text

    def read(self, text: object) -> EventTicket | None:
        """Return the content of a ticket; None if it is invalid or has expired.

        Does not check whether the login token is revoked.
        """
        signed_value = self._signer.read(text)
        if not isinstance(signed_value, dict) or signed_value.get("typ") != "events":
            return None
        ticket = EventTicket._make(map(signed_value.get, _CLAIMS))
        if tuple(map(type, ticket)) != _CLAIM_TYPES or ticket.expires_at <= self._clock():
            return None
        return ticket
