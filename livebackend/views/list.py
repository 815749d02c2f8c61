"""/list: friends, friend requests, live rooms."""

from livebackend.api.declaration import operation
from livebackend.api.parameter_types import RoomsPosition
from livebackend.api.parameters import LoggedIn
from livebackend.api.response_types import Friends, LiveRooms, Message
from livebackend.api.responses import Reply, ok
from livebackend.api.result_codes import Result
from livebackend.api.serializers import friends_list, message_card, rooms_page
from livebackend.api.view import View


class LiveList(LoggedIn):
    after: RoomsPosition | None = None


class List(View):
    route = "list"
    chapter = "Lists · 列表"

    @operation(
        "friendlist",
        params=LoggedIn,
        refusal=Result.REFUSED,
        reads=True,
        identifies=True,
        repeatable=True,
        message=Friends,
    )
    def friendlist(self, params: LoggedIn) -> Reply:
        """List friends, live ones first · 好友列表"""
        request = self.request
        rows = request.services.lists.friends(request.db, request.claims)
        return ok(friends_list(rows))

    @operation(
        "messagelist",
        params=LoggedIn,
        refusal=Result.REFUSED,
        reads=True,
        identifies=True,
        repeatable=True,
        message=list[Message],
    )
    def messagelist(self, params: LoggedIn) -> Reply:
        """List friend requests, newest first · 消息列表"""
        request = self.request
        messages = request.services.lists.messages(request.db, request.claims)
        return ok([message_card(message) for message in messages])

    @operation(
        "livelist",
        params=LiveList,
        refusal=Result.REFUSED,
        reads=True,
        extension=True,
        repeatable=True,
        message=LiveRooms,
    )
    def livelist(self, params: LiveList) -> Reply:
        """List live rooms, newest first, 50 per page · 直播列表"""
        request = self.request
        rooms, position = request.services.live_rooms.list(request.db, after=params.after)
        return ok(rooms_page(rooms, position))
