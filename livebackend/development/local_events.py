"""The event engine for development and small machines, which needs no other program."""

from pathlib import Path
from typing import Self

from livebackend.config.addresses import is_wildcard_address
from livebackend.config.settings import Settings
from livebackend.core.signing import derived_key
from livebackend.development.event_server.options import EventServerOptions
from livebackend.development.event_server.supervisor import EventServerSupervisor
from livebackend.gateways.events.http_engine import HttpEventEngine


class LocalEvents(HttpEventEngine):
    """Publishes to an event server in a child process, which the workers share.

    The server stores recent events in memory only: after a restart, clients receive `reset`.
    """

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raises ValueError if clients have no URL of the server."""
        if is_wildcard_address(settings.events_address):
            settings.require("events.public_url")
        return cls(
            EventServerOptions(
                address=settings.events_address,
                secret=derived_key(settings.signing_secrets[0], "event server").hex(),
                app_url=settings.events_app_url or settings.http_public_url,
                replay_s=settings.events_replay_s,
                max_streams_account=settings.events_max_streams_account,
                max_streams_address=settings.events_max_streams_address,
            ),
            lock_path=settings.data_dir / "event-server.lock",
        )

    def __init__(self, options: EventServerOptions, *, lock_path: Path) -> None:
        host, _, port = options.address.rpartition(":")
        if is_wildcard_address(options.address):
            host = "[::1]" if ":" in host else "127.0.0.1"
        url = f"http://{host}:{port}"
        super().__init__(url, options.secret)
        self.stream_url = f"{url}/events"
        self._supervisor = EventServerSupervisor(options, lock_path)
        self.server_thread = self._supervisor.thread

    def start_server(self) -> None:
        self.server_thread.start()

    def close_server(self) -> None:
        self._supervisor.close()
