"""Callbacks of the stream provider, which report that a stream may have changed."""

from collections.abc import Mapping

from livebackend.gateways.qiniu import QiniuCallbacks
from livebackend.services.stream_monitor import Streams


class StreamCallbacks:
    """Verifies callbacks, and queries the provider about the stream in question.

    A callback can be late or replayed, so its content is not trusted.
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
        """Query the provider about a stream; ignore an unknown stream."""
        self._stream_monitor.look_at(stream_key)
