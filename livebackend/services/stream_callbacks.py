"""Callbacks of the stream provider: hints that a broadcaster came or went."""

from collections.abc import Mapping

from livebackend.gateways.qiniu import QiniuCallbacks
from livebackend.services.stream_monitor import Streams


class StreamCallbacks:
    """Verifies callbacks, and asks the provider about the stream that they name.

    A callback can be late, or replayed: only the provider's present answer counts.
    """

    def __init__(self, stream_monitor: Streams, verifier: QiniuCallbacks) -> None:
        self._stream_monitor = stream_monitor
        self._verifier = verifier

    def is_genuine(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes
    ) -> bool:
        """Return whether the provider signed this request; `target` is its path and query."""
        return self._verifier.is_genuine(method, target, headers=headers, body=body)

    def receive(self, stream_key: str) -> None:
        """Ask the provider about a stream; an unknown stream changes nothing."""
        self._stream_monitor.look_at(stream_key)
