"""The event engine for production: nginx with its module Nchan."""

from typing import Self

from livebackend.config.settings import Settings
from livebackend.gateways.events.http_engine import HttpEventEngine


class NchanEvents(HttpEventEngine):
    """Publishes to an nginx with deploy/nginx-events.conf.

    If several of them share a Redis server, one of them distributes the events to all.
    """

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raises ValueError if the secret is missing."""
        settings.require("events.publish_secret")
        return cls(settings.events_publish_url, settings.events_publish_secret.get_secret_value())
