"""The picture decoder: decodes untrusted pictures outside the worker process."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from livebackend.storage import decoder_start
from livebackend.storage.decoder_start import STARTED, DecoderLimits
from livebackend.storage.protocol import InvalidImage, StorageFailed

# How long a picture waits for other pictures.
_QUEUE_TIMEOUT_S = 8.0
# How long one picture can take on a machine under load. With the wait, less than the read timeout
# of the proxy (deploy/nginx-site.conf).
_DECODING_TIMEOUT_S = 25.0
# 4096 × 4096 pixels with transparency need up to 330 MiB.
_MAX_MEMORY_BYTES = 512 * 2**20
# 1024 × 1024 pixels with transparency need up to 4 MiB.
_MAX_RESPONSE_BYTES = 8 * 2**20
_EXTENSIONS = ("jpg", "png")
_CONTROL_TIMEOUT_S = 1.0
_CHUNK_BYTES = 1_048_576


class PictureDecoder:
    """Decodes up to `max_concurrent` pictures at a time in a separate process.

    At most `max_callers` threads decode a picture or wait for other pictures. The process starts
    with the first picture, and again if it ended.
    """

    def __init__(
        self,
        *,
        max_cpu_s: float,
        max_concurrent: int,
        max_callers: int,
        queue_timeout_s: float = _QUEUE_TIMEOUT_S,
        timeout_s: float = _DECODING_TIMEOUT_S,
        max_memory_bytes: int = _MAX_MEMORY_BYTES,
        max_response_bytes: int = _MAX_RESPONSE_BYTES,
    ) -> None:
        self._limits = DecoderLimits(max_cpu_s, timeout_s, max_memory_bytes)
        self._queue_timeout_s = queue_timeout_s
        self._max_response_bytes = max_response_bytes
        self._callers = BoundedSemaphore(max_callers)
        self._permits = BoundedSemaphore(max_concurrent)
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def process_id(self) -> int | None:
        """The id of the decoder process, or None if no picture has started it."""
        return self._process.pid if self._process else None

    def reencode(self, content: bytes) -> tuple[str, bytes]:
        """Return the file name extension and the bytes of the re-encoded picture.

        Raises InvalidImage, also for a picture that needs too much CPU time or memory, and
        StorageFailed if there are too many pictures or the process cannot be used.
        """
        with self._permit():
            try:
                response = self._exchange(content)
            except OSError as error:  # a TimeoutError is an OSError
                raise StorageFailed(f"the picture decoder failed: {error!r}") from error
        return parse_response(response)

    def close(self) -> None:
        """End the process. A later picture starts it again."""
        with self._lock:
            if self._process and self._control:
                self._control.close()
                try:
                    self._process.wait(_CONTROL_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            self._process = self._control = None

    @contextmanager
    def _permit(self) -> Iterator[None]:
        if not self._callers.acquire(blocking=False):
            raise StorageFailed("too many concurrent uploads")
        try:
            if not self._permits.acquire(timeout=self._queue_timeout_s):
                raise StorageFailed(
                    f"too many concurrent uploads: waited {self._queue_timeout_s} s"
                )
            try:
                yield
            finally:
                self._permits.release()
        finally:
            self._callers.release()

    def _exchange(self, content: bytes) -> bytes:
        deadline = time.monotonic() + self._limits.timeout_s
        connection, decoder_connection = socket.socketpair()
        with connection:
            with decoder_connection:
                self._send(decoder_connection)
            connection.settimeout(self._limits.timeout_s)
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the process ended early; the response shows why
            response = bytearray()
            while chunk := connection.recv(_CHUNK_BYTES):
                response += chunk
                if len(response) > self._max_response_bytes:
                    raise OSError(f"its response has more than {self._max_response_bytes} bytes")
                connection.settimeout(max(0.001, deadline - time.monotonic()))
        return bytes(response)

    def _send(self, decoder_connection: socket.socket) -> None:
        """Send a socket to the decoder process; start the process if it does not run."""
        with self._lock:
            if self._process is None or self._control is None or self._process.poll() is not None:
                if self._control:
                    self._control.close()
                self._process, self._control = decoder_start.start(self._limits)
                self._control.settimeout(_CONTROL_TIMEOUT_S)
            socket.send_fds(self._control, [b"\0"], [decoder_connection.fileno()])


def parse_response(response: bytes) -> tuple[str, bytes]:
    """Return the file name extension and the picture in a response of the decoder process.

    The process can be under the control of an attacker. Raises InvalidImage and StorageFailed.
    """
    if not response:
        raise StorageFailed("the picture decoder could not start a process")
    header, _, result = response.removeprefix(STARTED).partition(b"\n")
    extension, _, length = header.decode("latin-1").partition(" ")
    if header and length == str(len(result)) and extension in _EXTENSIONS:
        return extension, result
    # A limit can also end the process while it sends the picture.
    reason = "" if header else result.decode("utf-8", "replace")
    raise InvalidImage(reason or "decoding needs too much CPU time or memory")
