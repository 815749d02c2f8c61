"""One request for each operation that requires a login token."""

from tests.support.api import PASSWORD

# (path, form) of each request; the tests add the login token to the form.
AUTHENTICATED_CALLS = [
    ("/room", {"live": "1", "title": "hello"}),
    ("/room", {"leave": "1"}),
    ("/list", {"friendlist": "1"}),
    ("/list", {"messagelist": "1"}),
    ("/friend", {"search": "1", "userId": "13800000001"}),
    ("/friend", {"add": "1", "userId": "13800000002"}),
    ("/friend", {"dealMessage": "1", "behaviour": "accept"}),
    ("/friend", {"delete": "1", "userId": "13800000002"}),
    ("/golden", {"refill": "1", "money": "10"}),
    ("/friend", {"refill": "1", "money": "10"}),
    ("/golden", {"send_gift": "1", "value": "1", "object": "13800000002", "description": "x"}),
    ("/friend", {"send_gift": "1", "value": "1", "object": "13800000002", "description": "x"}),
    ("/golden", {"balance": "1"}),
    ("/golden", {"records": "1"}),
    ("/golden", {"ranking": "1", "object": "13800000001"}),
    ("/friend", {"block": "1", "userId": "13800000002"}),
    ("/friend", {"unblock": "1", "userId": "13800000002"}),
    ("/list", {"livelist": "1"}),
    ("/room", {"heartbeat": "1"}),
    ("/events", {"ticket": "1"}),
    ("/log", {"change": "1", "oldPassword": PASSWORD, "password": "another-harbour-7"}),
    ("/log", {"logout": "1"}),
    ("/register", {"profile": "1", "nickname": "x"}),
    ("/register", {"remove": "1", "password": PASSWORD}),
]
