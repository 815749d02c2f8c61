"""/list: one's friends, one's messages, and all who are live."""

from typing import Annotated

from livebackend.api.declaration import operation
from livebackend.api.error_reasons import Reason
from livebackend.api.parameter_types import pattern
from livebackend.api.parameters import LoggedIn, Says
from livebackend.api.response_types import Friends, LiveRooms, Message
from livebackend.api.responses import ok
from livebackend.api.result_codes import Result
from livebackend.api.serializers import friend_card, message_card, room_card
from livebackend.api.view import View
from livebackend.services.live_rooms import Place, live_rooms

_PAGE = 50


class LiveList(LoggedIn):
    after: (
        Annotated[
            str,
            pattern("[0-9]{1,16},[0-9]{1,18}", Reason.NOT_A_PLACE),
            Says("`next` of the page before", "上一页返回的 next", "1483669725799000,42"),
        ]
        | None
    ) = None


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
    def friendlist(self, given):
        """List one's friends, those who are live first · 好友列表"""
        friends = [friend_card(friend) for friend in self.request.lists.friends()]
        return ok({"count": len(friends), "friends": friends})

    @operation(
        "messagelist",
        params=LoggedIn,
        refusal=Result.REFUSED,
        reads=True,
        identifies=True,
        repeatable=True,
        message=list[Message],
    )
    def messagelist(self, given):
        """List one's messages, the newest first · 消息列表"""
        return ok([message_card(message) for message in self.request.lists.messages()])

    @operation(
        "livelist",
        params=LiveList,
        refusal=Result.REFUSED,
        reads=True,
        extension=True,
        repeatable=True,
        message=LiveRooms,
    )
    def livelist(self, given):
        """List all who are live, the latest first, 50 a page · 直播列表"""
        after = Place.parse(given.after) if given.after else None
        page = live_rooms(self.request.db, after=after, most=_PAGE)
        more = str(page[-1].place) if len(page) == _PAGE else None
        return ok({"rooms": [room_card(room) for room in page], "next": more})
