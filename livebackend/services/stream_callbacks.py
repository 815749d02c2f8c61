"""Callbacks of the stream provider, which report that a stream may have changed."""

from collections.abc import Mapping

from livebackend.gateways.qiniu import QiniuCallbackVerifier
from livebackend.services.stream_monitor import StreamMonitor


class StreamCallbacks:
    """Verifies callbacks, and queries the provider about the stream of a callback.

    A callback can be late or replayed, so its content is not trusted.
    """

    def __init__(self, stream_monitor: StreamMonitor, verifier: QiniuCallbackVerifier) -> None:
        self._stream_monitor = stream_monitor
        self._verifier = verifier

    def has_valid_signature(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes
    ) -> bool:
        """Return whether the provider signed this request; `target` is its path and query."""
        return self._verifier.has_valid_signature(method, target, headers=headers, body=body)

    def receive(self, stream_key: str) -> None:
        """Handle a callback about a stream: query the provider for the stream's status.

        The content of the callback is not trusted. A callback about an unknown stream is ignored.
        """
        self._stream_monitor.refresh_status(stream_key)
