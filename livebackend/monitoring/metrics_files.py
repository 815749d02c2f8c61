"""The files with which the workers of a machine share their metrics."""

import os
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

# Space that the file system reserves beyond the content of a file, so that a worker can add metrics
# while the file system is full. The values of a metric that has space are always written.
_RESERVED_BYTES = 65_536
# Seconds that one thread waits until another one has written the files.
_LOCK_TIMEOUT_S = 2.0

_HEADER = struct.Struct("i4x")
_KEY_LENGTH = struct.Struct("i")
_VALUE_AND_TIME = struct.Struct("dd")


class MetricsFiles:
    """All metrics files of a process. Several threads can write them."""

    def __init__(self, *, lock_timeout_s: float = _LOCK_TIMEOUT_S) -> None:
        self._lock_timeout_s = lock_timeout_s
        self._files: list[MetricsFile] = []
        self._lock = threading.Lock()

    def open(self, filename: str) -> "MetricsFile":
        """Return a new file, which `write` writes from now on."""
        file = MetricsFile(filename)
        self._files.append(file)
        return file

    def write(self) -> None:
        """Write all files. Raises OSError, after all other files, if one cannot be written.

        Does nothing if another thread does not complete its writes, as on a disk that hangs.
        """
        if not self._lock.acquire(timeout=self._lock_timeout_s):
            return
        try:
            errors = [error for file in list(self._files) if (error := _write_error(file))]
        finally:
            self._lock.release()
        if errors:
            raise errors[0]


class MetricsFile:
    """The values of one kind of metric in one process; `write` copies them to a file.

    It replaces prometheus_client's MmapedDict and has the same file format: the length of the
    content, then each value with its key. MmapedDict maps a sparse file into memory, so that a full
    file system kills the process with SIGBUS.
    """

    def __init__(self, filename: str) -> None:
        self._path = Path(filename)
        self._content = bytearray(_HEADER.pack(_HEADER.size))
        self._written_content = b""
        self._positions: dict[str, int] = {}
        # The values of an ended process that had the same process id: no counter must decrease.
        read_all_values: Any = MmapedDict.read_all_values_from_file
        with suppress(OSError, struct.error, RuntimeError):
            for key, value, timestamp, _ in read_all_values(filename):
                self.write_value(key, value, timestamp)

    def read_value(self, key: str) -> tuple[float, float]:
        """Return the value and its time; both are 0 for a new key."""
        value, timestamp = _VALUE_AND_TIME.unpack_from(self._content, self._position(key))
        return value, timestamp

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Store a value in memory. The caller has a lock."""
        position = self._position(key)
        self._content[position : position + _VALUE_AND_TIME.size] = _VALUE_AND_TIME.pack(
            value, timestamp
        )

    def write(self) -> None:
        """Write the values to the file. Raises OSError; the file then lacks new keys.

        Only one thread at a time can call this method.
        """
        content = bytes(self._content)
        if content == self._written_content:
            return
        if not self._path.exists():
            self._create()
        with self._path.open("r+b", buffering=0) as file:
            _reserve(file.fileno(), len(content))
            # The length comes last: it must not include keys that are not yet in the file.
            _write_at(file.fileno(), content[_HEADER.size :], _HEADER.size)
            _write_at(file.fileno(), content[: _HEADER.size], 0)
        self._written_content = content

    def close(self) -> None:
        """Do nothing: prometheus_client calls this method in a forked process."""

    def _position(self, key: str) -> int:
        position = self._positions.get(key)
        return self._add(key) if position is None else position

    def _add(self, key: str) -> int:
        encoded_key = key.encode()
        # Spaces after the key, which its length does not include, align its value to 8 bytes.
        padding = b" " * (8 - (len(encoded_key) + _KEY_LENGTH.size) % 8)
        self._content += _KEY_LENGTH.pack(len(encoded_key)) + encoded_key + padding
        self._content += _VALUE_AND_TIME.pack(0.0, 0.0)
        self._content[: _HEADER.size] = _HEADER.pack(len(self._content))
        self._positions[key] = len(self._content) - _VALUE_AND_TIME.size
        return self._positions[key]

    def _create(self) -> None:
        """Create a file without values. Other processes read only complete files."""
        temporary_path = self._path.with_suffix(".part")
        with temporary_path.open("wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVED_BYTES)
            _write_at(file.fileno(), _HEADER.pack(_HEADER.size), 0)
        temporary_path.rename(self._path)


def _write_error(file: MetricsFile) -> OSError | None:
    """Write a file; return the error if that fails."""
    try:
        file.write()
    except OSError as error:
        return error
    return None


def _reserve(descriptor: int, length: int) -> None:
    """Reserve space for content of `length` bytes and for later keys, if there is space."""
    if os.fstat(descriptor).st_size < length + _RESERVED_BYTES // 2:
        with suppress(OSError):  # a write of content that has no space fails
            os.posix_fallocate(descriptor, 0, length + _RESERVED_BYTES)


def _write_at(descriptor: int, content: bytes, position: int) -> None:
    while content:
        length = os.pwrite(descriptor, content, position)
        content, position = content[length:], position + length
