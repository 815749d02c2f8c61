"""/list: one's friends and one's messages."""

from livebackend.operation import View, operation
from livebackend.params import LoggedIn
from livebackend.replies import Friends, Message
from livebackend.results import Result, ok
from livebackend.views.cards import friend_card, message_card


class List(View):
    route = "list"
    chapter = "Lists · 列表"

    @operation(
        "friendlist", params=LoggedIn, refusal=Result.REFUSED, repeatable=True, message=Friends
    )
    def friendlist(self, given):
        """List one's friends, those who are live first · 好友列表"""
        friends = [friend_card(friend) for friend in self.request.friends.listing()]
        return ok({"count": len(friends), "friends": friends})

    @operation(
        "messagelist",
        params=LoggedIn,
        refusal=Result.REFUSED,
        repeatable=True,
        message=list[Message],
    )
    def messagelist(self, given):
        """List one's messages, the newest first · 消息列表"""
        return ok([message_card(message) for message in self.request.friends.messages()])
