"""Faults of the server's machine: temporary folder, log pipe, clock."""

import fcntl
import shutil
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.rows import CLIENT_COUNT, NO_EFFECT_LIMITS, Row, Scale, Skipped
from tests.chaos.site import Site
from tests.support.servers import Server
from tests.support.small_disk import filled, small_disk

# A write of a log record fails if it does not fit into the rest of the pipe.
_PIPE_BYTES = 65_536 - 4096
_CLOCK_SOURCE = Path(__file__).with_name("clock_offset.c")


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
        unread_count = _unread_byte_count(server.process.stderr)
    server.process.stderr.close()
    errors = [] if unread_count >= _PIPE_BYTES else [f"the log has only {unread_count} bytes"]
    return replace(observation, errors=observation.errors + errors)


def _unread_byte_count(pipe: IO[bytes]) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(count)


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
    load = Load(site.users, Endpoint(server.port), CLIENT_COUNT, pause_s=0.1)
    return observe(load, site.postgres.url, inject)


ROWS = [
    Row(
        "temporary folder full",
        observe_full_temporary_folder,
        NO_EFFECT_LIMITS,
        "tests/monitoring/test_metrics_files.py",
    ),
    Row(
        "stderr not read",
        observe_unread_log,
        NO_EFFECT_LIMITS,
        "tests/monitoring/test_log_queue.py",
    ),
    Row(
        "clock one hour ahead, then back",
        observe_wrong_clock,
        NO_EFFECT_LIMITS,
        "tests/hardened/test_reliability.py",
    ),
]
