"""Event engines that record events in memory or in a file; settings name them."""

import json
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from livebackend.config.settings import Settings
from livebackend.gateways.events.protocol import ChannelEvent, EventsFailed

# A server under load publishes more events than a test reads.
_MAX_EVENTS = 20_000


class RecordingEvents:
    """Event engine that records the published events, and fails while `fails` is set."""

    def __init__(self) -> None:
        self.published: deque[dict[str, Any]] = deque(maxlen=_MAX_EVENTS)
        self.closed_channels: list[str] = []
        self.fails = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls()

    def publish(self, events: Sequence[ChannelEvent]) -> Sequence[ChannelEvent]:
        self._fail_if_requested()
        for channel, event in events:
            content = json.loads(event.body)
            assert (content["channel"], content["type"]) == (channel, event.type)
            self.published.append(content)
        return ()

    def close_channel(self, channel: str) -> None:
        self._fail_if_requested()
        self.closed_channels.append(channel)

    def subscribers(self, channel: str) -> int:
        return 0

    def _fail_if_requested(self) -> None:
        if self.fails:
            raise EventsFailed("the engine is unavailable")


class FileEvents(RecordingEvents):
    """Event engine that appends each event to a file, which survives the process."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def publish(self, events: Sequence[ChannelEvent]) -> Sequence[ChannelEvent]:
        os.write(self._file, b"".join(event.body + b"\n" for _, event in events))
        return ()
