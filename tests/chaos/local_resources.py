"""Faults of the server's machine: temporary folder, log pipe, clock."""

import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.rows import UNHARMED, Row, Scale, Skipped
from tests.chaos.site import Site
from tests.support.servers import Server

_CLIENT_COUNT = 24
_CLOCK_SOURCE = Path(__file__).with_name("clock_offset.c")
_CHUNK = bytes(65_536)


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """Mount a file system of `size_mb` in the memory. Raises Skipped without root."""
    if os.geteuid() != 0:
        raise Skipped("needs root, to mount a small file system")
    folder.mkdir(exist_ok=True)
    options = f"size={size_mb}m,mode=1777"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        raise Skipped(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
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
        with file.open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(_CHUNK)
        with file.open("ab", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(b"x")
        yield
    finally:
        file.unlink()


def observe_full_temporary_folder(site: Site, scale: Scale) -> Observation:
    """Fill the folder before the first request, whose metrics need space in it."""
    with (
        small_disk(site.folder / "tmp", 32) as folder,
        site.own_server(variables={"TMPDIR": str(folder)}) as server,
        filled(folder),
    ):
        return _observe(site, server, lambda: time.sleep(scale.pick(10, 6)))


def observe_unread_log(site: Site, scale: Scale) -> Observation:
    """Send requests until the log pipe of the server is full, and longer."""
    with site.own_server(stderr=subprocess.PIPE) as server:
        observation = _observe(site, server, lambda: time.sleep(scale.pick(12, 8)))
        assert server.process.stderr
        # Nothing read the pipe so far. The server could not stop while a thread waits for it.
        os.set_blocking(server.process.stderr.fileno(), False)
        server.process.stderr.close()
        return observation


def observe_wrong_clock(site: Site, scale: Scale) -> Observation:
    """Set the server's clock an hour ahead, an hour back, and right again."""
    offset_file = site.folder / "clock offset"
    offset_file.write_bytes(struct.pack("q", 0))

    def set_clock() -> None:
        with offset_file.open("r+b", buffering=0) as file:
            for offset_s in (3600, -3600, 0):
                file.seek(0)
                file.write(struct.pack("q", offset_s))
                time.sleep(scale.pick(4, 3))

    with _compiled_clock_library() as library:
        variables = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(offset_file)}
        with site.own_server(variables=variables) as server:
            return _observe(site, server, set_clock)


@contextmanager
def _compiled_clock_library() -> Iterator[Path]:
    """Compile clock_offset.c into a folder without blanks, which LD_PRELOAD cannot contain."""
    if shutil.which("cc") is None:
        raise Skipped("needs a C compiler")
    with tempfile.TemporaryDirectory(prefix="livebackend-", dir="/tmp") as folder:
        library = Path(folder) / "clock_offset.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_CLOCK_SOURCE)]
        subprocess.run(command, check=True, timeout=60)
        yield library


def _observe(site: Site, server: Server, inject: Callable[[], object]) -> Observation:
    load = Load(site.users, Endpoint(server.port), _CLIENT_COUNT, pause_s=0.1)
    return observe(load, site.postgres.url, inject)


ROWS = [
    Row("temporary folder full", observe_full_temporary_folder, UNHARMED),
    Row("stderr not read", observe_unread_log, UNHARMED),
    Row("clock one hour ahead, then back", observe_wrong_clock, UNHARMED),
]
