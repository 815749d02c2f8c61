"""The disk of PostgreSQL is full."""

import time

from tests.chaos.client import Endpoint
from tests.chaos.load import Load
from tests.chaos.observation import Observation, observe
from tests.chaos.rows import CLIENT_COUNT, OUTAGE_LIMITS, Row, Scale
from tests.chaos.site import Site, create_users, running_postgres
from tests.support.postgres_node import Node, socket_directory
from tests.support.small_disk import filled, small_disk

# A new data directory has 50 MB; its write-ahead log grows to 80 MB.
_DISK_MB = 256


def observe_full_disk(site: Site, scale: Scale) -> Observation:
    """Fill the disk of another PostgreSQL, whose data is on a small file system."""
    with (
        small_disk(site.folder / "disk", _DISK_MB) as disk,
        socket_directory() as socket_root,
        running_postgres(disk, socket_root) as postgres,
    ):
        users = create_users(postgres.url)

        def fill() -> None:
            with filled(disk):
                time.sleep(scale.pick(10, 4))
            _start_if_ended(postgres)

        with site.own_server({"database.url": postgres.url}) as server:
            load = Load(users, Endpoint(server.port), CLIENT_COUNT)
            return observe(load, postgres.url, fill, readiness_port=server.port)


def _start_if_ended(postgres: Node) -> None:
    """Start PostgreSQL if the full disk has ended it, as systemd does."""
    if not postgres.is_running:
        postgres.kill()
        postgres.start()


ROWS = [Row("disk of PostgreSQL full", observe_full_disk, OUTAGE_LIMITS)]
