"""Python client of the livebackend API; create a `Client` with the server's URL."""

from livebackend_client.base_client import File
from livebackend_client.errors import (
    ApiError,
    ConnectionFailed,
    InvalidResponse,
    OperationRefused,
    ServerUnavailable,
)
from livebackend_client.operations import Operations

__all__ = [
    "ApiError",
    "Client",
    "ConnectionFailed",
    "File",
    "InvalidResponse",
    "OperationRefused",
    "ServerUnavailable",
]


class Client(Operations):
    """Client of one livebackend server; calls it as the user of `token`, if set.

    ann.token = ann.log_in(userId="13800000001", password="harbour-42")
    """
