"""Python client of the livebackend API; create a `Client` with the server's URL."""

from livebackend_client.calls import File
from livebackend_client.errors import ApiError, NoReply, NotReached, NotServed, Refused
from livebackend_client.operations import Operations

__all__ = ["ApiError", "Client", "File", "NoReply", "NotReached", "NotServed", "Refused"]


class Client(Operations):
    """Client of one server; it acts as one user if `token` is set.

    ann.token = ann.log_in(userId="13800000001", password="harbour-42")
    """
