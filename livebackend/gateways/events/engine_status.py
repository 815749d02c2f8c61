"""The format in which Nchan and the event server report their status."""

from livebackend.gateways.events.protocol import EngineStatus

_KIB = 1024


def status_lines(status: EngineStatus) -> bytes:
    """Return a status in the format of `nchan_stub_status`."""
    return (
        f"stored messages: {status.stored_events}\n"
        f"shared memory used: {status.memory_bytes // _KIB}K\n"
        f"shared memory limit: {status.max_memory_bytes // _KIB}K\n"
        f"channels: {status.channels}\n"
        f"subscribers: {status.subscribers}\n"
    ).encode()


def parse_status(lines: bytes) -> EngineStatus:
    """Return the status in a response of `nchan_stub_status`. Raises ValueError."""
    fields = dict(line.split(": ", 1) for line in lines.decode("ascii").splitlines())
    try:
        return EngineStatus(
            subscribers=int(fields["subscribers"]),
            channels=int(fields["channels"]),
            stored_events=int(fields["stored messages"]),
            memory_bytes=_bytes(fields["shared memory used"]),
            max_memory_bytes=_bytes(fields["shared memory limit"]),
        )
    except KeyError as error:
        raise ValueError(f"the status has no field {error}") from None


def _bytes(size: str) -> int:
    """Return the bytes of a size such as 16K."""
    if not size.endswith("K"):
        raise ValueError(f"{size!r} is not a size such as 16K")
    return int(size.removesuffix("K")) * _KIB
