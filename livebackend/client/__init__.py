"""The API from Python: `Client("http://127.0.0.1:6543")`, with one method per operation."""

from livebackend.client.calls import ApiError, File, NoReply, NotReached, NotServed, Refused
from livebackend.client.operations import Operations

__all__ = ["ApiError", "Client", "File", "NoReply", "NotReached", "NotServed", "Refused"]


class Client(Operations):
    """A client of one server, and of one user once his token is set:

    ann.token = ann.log_in(userId="13800000001", password="harbour-42")
    """
