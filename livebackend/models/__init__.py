"""Tables and constraints, one noun per file. No queries, no JSON."""

from livebackend.models.accounts import accounts
from livebackend.models.codes import code_tries, codes
from livebackend.models.friends import friend_requests, friendships
from livebackend.models.metadata import metadata
from livebackend.models.pictures import pictures
from livebackend.models.rooms import rooms

__all__ = [
    "accounts",
    "code_tries",
    "codes",
    "friend_requests",
    "friendships",
    "metadata",
    "pictures",
    "rooms",
]
