"""/friend: finding people, asking, answering, parting."""

from typing import Annotated, Literal

from livebackend.api.declaration import operation
from livebackend.api.error_reasons import Reason
from livebackend.api.parameter_types import MessageName, Phone
from livebackend.api.parameters import ErrorCode, LoggedIn, described
from livebackend.api.response_types import Flag, Profile
from livebackend.api.responses import Reply, ok
from livebackend.api.result_codes import Result
from livebackend.api.serializers import found_flag, profile_card
from livebackend.api.view import View


class Somebody(LoggedIn):
    userId: Annotated[
        Phone, ErrorCode(Result.NO_SUCH_USER), described("whose phone", "目标帐号", "13800000002")
    ]


class AFriend(LoggedIn):
    userId: Annotated[Phone, described("the friend's phone", "目标帐号", "13800000002")]


class DealMessage(LoggedIn):
    userId: Annotated[Phone, described("who asked", "申请者的用户Id", "13800000001")]
    verifyId: Annotated[
        MessageName,
        described(
            "verifyId of the message in the list",
            "消息列表中的 verifyId",
            "13800000002,1483669725799000",
        ),
    ]
    objectId: Annotated[
        MessageName,
        described(
            "objectId of the message in the list",
            "消息列表中的 objectId",
            "13800000001,1483669725799000",
        ),
    ]
    behaviour: Annotated[
        Literal["accept", "delete"],
        described("accept the request, or delete the message", "同意申请，或删除消息", "accept"),
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
    def search(self, given: Somebody) -> Reply:
        """Find somebody by phone · 用户搜索"""
        request = self.request
        found = request.services.friends.search(request.db, request.account, given.userId)
        return ok(profile_card(found.profile), flag=found_flag(found, request.account))

    @operation(
        "add",
        params=Somebody,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER, Result.ALREADY_FRIENDS],
        limits=["add"],
        already_done=Reason.ALREADY_A_FRIEND,
    )
    def add(self, given: Somebody) -> Reply:
        """Ask somebody to be friends · 添加好友"""
        request = self.request
        request.services.friends.add(request.db, request.account, given.userId)
        return ok()

    @operation("dealMessage", params=DealMessage, refusal=Result.REFUSED, repeatable=True)
    def deal_message(self, given: DealMessage) -> Reply:
        """Accept a request, or delete a message · 消息处理"""
        request, friends = self.request, self.request.services.friends
        deal = friends.accept if given.behaviour == "accept" else friends.delete_message
        deal(request.db, request.account, given.userId, given.verifyId, given.objectId)
        return ok()

    @operation("delete", params=AFriend, refusal=Result.REFUSED, already_done=Reason.NOT_A_FRIEND)
    def unfriend(self, given: AFriend) -> Reply:
        """End a friendship · 删除好友"""
        request = self.request
        request.services.friends.unfriend(request.db, request.account, given.userId)
        return ok()

    @operation(
        "block",
        params=Somebody,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        extension=True,
        repeatable=True,
    )
    def block(self, given: Somebody) -> Reply:
        """Part from somebody, and see no request of his any more · 拉黑"""
        request = self.request
        request.services.friends.block(request.db, request.account, given.userId)
        return ok()

    @operation(
        "unblock",
        params=Somebody,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        extension=True,
        repeatable=True,
    )
    def unblock(self, given: Somebody) -> Reply:
        """See somebody's requests again · 取消拉黑"""
        request = self.request
        request.services.friends.unblock(request.db, request.account, given.userId)
        return ok()
