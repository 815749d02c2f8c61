"""/friend: finding people, asking, answering, parting."""

from typing import Annotated

from livebackend.operation import View, operation
from livebackend.params import LoggedIn, MessageName, Phone, Refuses, pattern
from livebackend.results import Reason, Result, ok
from livebackend.services.friends import MessageId
from livebackend.views.cards import profile_card


class Somebody(LoggedIn):
    userId: Annotated[Phone, Refuses(Result.NO_SUCH_USER)]


class AFriend(LoggedIn):
    userId: Phone


class DealMessage(LoggedIn):
    userId: Phone
    verifyId: MessageName
    objectId: MessageName
    behaviour: Annotated[str, pattern("accept|delete", Reason.NOT_A_VALUE)]


class Friend(View):
    route = "friend"

    @operation(
        "search",
        params=Somebody,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        limits=["search"],
    )
    def search(self, given):
        """Find somebody by phone · 用户搜索"""
        found = self.request.friends.search(given.userId)
        if found.account_id == self.request.account.id:
            return ok(profile_card(found.profile), flag="-1")
        return ok(profile_card(found.profile), flag="1" if found.is_friend else "0")

    @operation(
        "add",
        params=Somebody,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER, Result.ALREADY_FRIENDS],
        limits=["add"],
    )
    def add(self, given):
        """Ask somebody to be friends · 添加好友"""
        self.request.friends.add(given.userId)
        return ok()

    @operation("dealMessage", params=DealMessage, refusal=Result.REFUSED)
    def deal_message(self, given):
        """Accept a request, or delete a message · 消息处理"""
        friends = self.request.friends
        deal = friends.accept if given.behaviour == "accept" else friends.delete_message
        deal(given.userId, MessageId.parse(given.verifyId), MessageId.parse(given.objectId))
        return ok()

    @operation("delete", params=AFriend, refusal=Result.REFUSED)
    def unfriend(self, given):
        """End a friendship · 删除好友"""
        self.request.friends.unfriend(given.userId)
        return ok()

    @operation(
        "block",
        params=Somebody,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        extension=True,
    )
    def block(self, given):
        """Part from somebody, and see no request of his any more · 拉黑"""
        self.request.friends.block(given.userId)
        return ok()

    @operation(
        "unblock",
        params=Somebody,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        extension=True,
    )
    def unblock(self, given):
        """See somebody's requests again · 取消拉黑"""
        self.request.friends.unblock(given.userId)
        return ok()
