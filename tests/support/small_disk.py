"""A small file system in the memory, which a test can fill."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK = bytes(65_536)


class CannotMount(Exception):
    """The file system cannot be mounted here; the message has the reason."""


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """Mount a file system of `size_mb` at `folder`. Raises CannotMount without root."""
    if os.geteuid() != 0:
        raise CannotMount("needs root, to mount a small file system")
    folder.mkdir(exist_ok=True)
    options = f"size={size_mb}m,mode=1777"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        raise CannotMount(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        # A process that still has an open file on the disk does not prevent a lazy unmount.
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no free space on the file system of `folder` during the `with` block."""
    file = folder / "filler"
    try:
        # The last bytes need writes that are smaller than a chunk.
        for chunk in (_CHUNK, b"x"):
            with file.open("ab", buffering=0) as filler, suppress(OSError):
                while True:
                    filler.write(chunk)
        yield
    finally:
        file.unlink(missing_ok=True)
