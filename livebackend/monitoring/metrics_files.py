"""The files with which the workers of a machine share their metrics."""

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

# The file system reserves this space when a file is created, so that the metrics of a worker stay
# up to date while the file system is full.
_RESERVED_BYTES = 65_536

_HEADER = struct.Struct("i4x")
_KEY_LENGTH = struct.Struct("i")
_VALUE_AND_TIME = struct.Struct("dd")


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
        """Write the values to the file. Raises OSError; the file then has some old values."""
        content = bytes(self._content)
        if content == self._written_content:
            return
        if not self._path.exists():
            self._create()
        with self._path.open("r+b", buffering=0) as file:
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


def _write_at(descriptor: int, content: bytes, position: int) -> None:
    while content:
        length = os.pwrite(descriptor, content, position)
        content, position = content[length:], position + length
