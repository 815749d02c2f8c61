"""A process with a relay that appends the events to a file: relay_process URL FILE.

The process ends when its standard input is closed, so that it does not outlive the test.
"""

import secrets
import sys
from datetime import timedelta
from pathlib import Path

from livebackend.database.engine import Database
from livebackend.events.outbox_limits import OutboxLimits
from livebackend.events.relay import Relay
from livebackend.monitoring.metrics import Metrics
from tests.support.recording_events import FileEvents

# A killed relay is replaced after this time.
LEASE_TTL_S = 3.0


def main(url: str, path: str) -> None:
    relay = Relay(
        Database(url),
        FileEvents(Path(path)),
        holder=secrets.token_hex(16),
        limits=OutboxLimits(max_rows=100_000, max_age=timedelta(hours=1)),
        metrics=Metrics(),
        lease_ttl_s=LEASE_TTL_S,
    )
    relay.start()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
