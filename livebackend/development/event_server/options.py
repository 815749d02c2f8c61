"""The options of the event server."""

from typing import NamedTuple


class EventServerOptions(NamedTuple):
    """The address of the event server, and its limits."""

    # Host and port, such as 127.0.0.1:6545.
    address: str
    # Authenticates the processes that publish events.
    secret: str
    # The URL of the application, which checks the tickets.
    app_url: str
    # Seconds for which events are stored, for clients that connect again.
    replay_s: int
    max_streams_account: int
    max_streams_address: int
    max_connections: int = 500
    # All clients connect again within this time, and are checked again.
    max_connection_s: float = 600.0
    ping_interval_s: float = 15.0
    # Seconds for which a client can receive no byte while data is waiting.
    send_timeout_s: float = 8.0
    max_stored_bytes: int = 16 * 2**20
    # Events that wait for one slow client.
    max_queued_events: int = 200
