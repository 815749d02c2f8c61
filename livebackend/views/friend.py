"""/friend: finding people, asking, answering, parting."""

from typing import Annotated

from livebackend.api.declaration import operation
from livebackend.api.error_reasons import Reason
from livebackend.api.parameter_types import MessageName, Phone, one_of
from livebackend.api.parameters import LoggedIn, Refuses, Says
from livebackend.api.response_types import Flag, Profile
from livebackend.api.responses import ok
from livebackend.api.result_codes import Result
from livebackend.api.serializers import profile_card
from livebackend.api.view import View
from livebackend.services.friends import MessageId


class Somebody(LoggedIn):
    userId: Annotated[
        Phone, Refuses(Result.NO_SUCH_USER), Says("whose phone", "目标帐号", "13800000002")
    ]


class AFriend(LoggedIn):
    userId: Annotated[Phone, Says("the friend's phone", "目标帐号", "13800000002")]


class DealMessage(LoggedIn):
    userId: Annotated[Phone, Says("who asked", "申请者的用户Id", "13800000001")]
    verifyId: Annotated[
        MessageName,
        Says(
            "verifyId of the message in the list",
            "消息列表中的 verifyId",
            "13800000002,1483669725799000",
        ),
    ]
    objectId: Annotated[
        MessageName,
        Says(
            "objectId of the message in the list",
            "消息列表中的 objectId",
            "13800000001,1483669725799000",
        ),
    ]
    behaviour: Annotated[
        str,
        one_of("accept", "delete"),
        Says("accept the request, or delete the message", "同意申请，或删除消息", "accept"),
    ]


class Friend(View):
    route = "friend"
    chapter = "Friends · 用户管理"

    @operation(
        "search",
        params=Somebody,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        reads=True,
        limits=["search"],
        repeatable=True,
        message=Profile,
        beside={"flag": Flag},
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
        already_done=Reason.ALREADY_A_FRIEND,
    )
    def add(self, given):
        """Ask somebody to be friends · 添加好友"""
        self.request.friends.add(given.userId)
        return ok()

    @operation("dealMessage", params=DealMessage, refusal=Result.REFUSED, repeatable=True)
    def deal_message(self, given):
        """Accept a request, or delete a message · 消息处理"""
        friends = self.request.friends
        deal = friends.accept if given.behaviour == "accept" else friends.delete_message
        deal(given.userId, MessageId.parse(given.verifyId), MessageId.parse(given.objectId))
        return ok()

    @operation("delete", params=AFriend, refusal=Result.REFUSED, already_done=Reason.NOT_A_FRIEND)
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
        repeatable=True,
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
        repeatable=True,
    )
    def unblock(self, given):
        """See somebody's requests again · 取消拉黑"""
        self.request.friends.unblock(given.userId)
        return ok()
