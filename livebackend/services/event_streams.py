"""Event streams: tickets for new connections, and the check of each connection."""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection

from livebackend.core.errors import TokenInvalid
from livebackend.database.engine import Database
from livebackend.events.channels import open_channel, user_channel
from livebackend.events.reset import reset_lines
from livebackend.events.tickets import EventTicket, EventTickets
from livebackend.gateways.events.event_stream import STREAM_PATH_PREFIX, EventId
from livebackend.services.login_tokens import LoginTokens, TokenClaims
from livebackend.services.rate_limits import RateLimit, RateLimiter, account_subject

# The clocks of livebackend and of the engine can differ by this much. A stream begins earlier than
# necessary, and clients drop the events that they already have, by the sequence numbers.
_MAX_CLOCK_DIFFERENCE_S = 5


class StreamUrl(NamedTuple):
    """The URL of an event stream, and the seconds for which it opens connections."""

    url: str
    expires_in_s: int
    # The channels of the stream, with the numbers of their last events.
    channels: dict[str, int]


class EventStreams:
    """Decides which clients can subscribe to which channels.

    The event engine holds the connections.
    """

    def __init__(
        self,
        database: Database,
        login_tokens: LoginTokens,
        tickets: EventTickets,
        rate_limits: RateLimiter,
        *,
        url: str,
        replay_s: int,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._login_tokens = login_tokens
        self._tickets = tickets
        self._rate_limits = rate_limits
        # The URL at which clients open event streams.
        self.url = url
        self._replay_s = replay_s
        self._clock = clock

    def issue_url(self, connection: Connection, claims: TokenClaims) -> StreamUrl:
        """Return the URL of the event stream of a user with this login token.

        From the commit on, the events of the user are published.
        """
        ticket = self._tickets.issue(
            token_id=claims.token_id,
            account_id=claims.account_id,
            token_version=claims.version,
            token_expires_at=claims.expires_at,
        )
        channel = user_channel(claims.account_id)
        last_number = open_channel(connection, channel)
        return StreamUrl(
            f"{self.url}?ticket={ticket.text}", ticket.expires_in_s, {channel: last_number}
        )

    def read_ticket(self, text: object) -> EventTicket | None:
        """Return the content of a ticket; None if it is invalid or has expired."""
        return self._tickets.read(text)

    def has_access(self, ticket: EventTicket) -> bool:
        """Return whether the login token of a ticket is still valid, and count the connection.

        The token of a disabled or removed account is not valid. A probe needs no login token. Uses
        a transaction of its own. Raises RateLimited.
        """
        if ticket.is_probe:
            return True
        claims = TokenClaims(
            token_id=ticket.token_id,
            account_id=ticket.account_id,
            version=ticket.token_version,
            expires_at=ticket.expires_at,
        )
        limit = RateLimit("event_streams", account_subject(ticket.account_id))
        try:
            if self._rate_limits.has_rules(limit):
                self._login_tokens.identify_and_count(self._rate_limits, claims, limit)
            else:
                self._database.run_autocommit(
                    lambda connection: self._login_tokens.identify(connection, claims)
                )
        except TokenInvalid:
            return False
        return True

    def location(self, ticket: EventTicket, last_event_id: str) -> str | None:
        """Return the path at which the engine serves the stream of a ticket.

        The stream begins after an event or, if the id is empty, when the ticket was issued; with
        Nchan, it begins earlier. Returns None if the engine can no longer have all these events.
        """
        if last_event_id:
            event_id = EventId.parse(last_event_id)
            if event_id is None or event_id.time_s < self._clock() - self._replay_s:
                return None
        else:
            event_id = EventId(ticket.issued_at - _MAX_CLOCK_DIFFERENCE_S, 0)
        channel = user_channel(ticket.account_id)
        return f"{STREAM_PATH_PREFIX}{channel}?last={event_id}"

    def reset_stream(self) -> bytes:
        """Return a short event stream for a client that has missed events.

        The client then connects again, and continues from the time of this event.
        """
        return reset_lines(EventId(int(self._clock()) - _MAX_CLOCK_DIFFERENCE_S, 0))
