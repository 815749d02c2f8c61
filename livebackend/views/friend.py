"""/friend: user search, friend requests, friendships, blocks."""

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


class TargetUser(LoggedIn):
    userId: Annotated[
        Phone,
        ErrorCode(Result.NO_SUCH_USER),
        described("phone number of the other user", "目标用户的手机号", "13800000002"),
    ]


class FriendTarget(LoggedIn):
    userId: Annotated[Phone, described("phone number of the friend", "好友的手机号", "13800000002")]


class DealMessage(LoggedIn):
    userId: Annotated[
        Phone,
        described(
            "phone number of the user that sent the request", "申请者的手机号", "13800000001"
        ),
    ]
    verifyId: Annotated[
        MessageName,
        described(
            "verifyId from the message list",
            "消息列表中的 verifyId",
            "13800000002,1483669725799000",
        ),
    ]
    objectId: Annotated[
        MessageName,
        described(
            "objectId from the message list",
            "消息列表中的 objectId",
            "13800000001,1483669725799000",
        ),
    ]
    behaviour: Annotated[
        Literal["accept", "delete"],
        described(
            "accept the request or delete the message", "accept 同意申请，delete 删除消息", "accept"
        ),
    ]


class Friend(View):
    route = "friend"
    chapter = "Friends · 用户管理"

    @operation(
        "search",
        params=TargetUser,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        reads=True,
        limits=["search"],
        repeatable=True,
        message=Profile,
        beside={"flag": Flag},
    )
    def search(self, params: TargetUser) -> Reply:
        """Find a user by phone number · 用户搜索"""
        request = self.request
        result = request.services.friends.search(request.db, request.account, params.userId)
        return ok(profile_card(result.profile), flag=found_flag(result, request.account))

    @operation(
        "add",
        params=TargetUser,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER, Result.ALREADY_FRIENDS],
        limits=["add"],
        already_done=Reason.ALREADY_A_FRIEND,
    )
    def add(self, params: TargetUser) -> Reply:
        """Send a friend request · 添加好友"""
        request = self.request
        request.services.friends.add(request.db, request.account, params.userId)
        return ok()

    @operation("dealMessage", params=DealMessage, refusal=Result.REFUSED, repeatable=True)
    def deal_message(self, params: DealMessage) -> Reply:
        """Accept a friend request or delete a message · 消息处理"""
        request, friends = self.request, self.request.services.friends
        action = friends.accept if params.behaviour == "accept" else friends.delete_message
        action(request.db, request.account, params.userId, params.verifyId, params.objectId)
        return ok()

    @operation(
        "delete", params=FriendTarget, refusal=Result.REFUSED, already_done=Reason.NOT_A_FRIEND
    )
    def unfriend(self, params: FriendTarget) -> Reply:
        """Remove a friend · 删除好友"""
        request = self.request
        request.services.friends.unfriend(request.db, request.account, params.userId)
        return ok()

    @operation(
        "block",
        params=TargetUser,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        extension=True,
        repeatable=True,
    )
    def block(self, params: TargetUser) -> Reply:
        """Block a user · 拉黑

        Ends the friendship and hides friend requests of the blocked user.
        """
        request = self.request
        request.services.friends.block(request.db, request.account, params.userId)
        return ok()

    @operation(
        "unblock",
        params=TargetUser,
        refusal=Result.REFUSED,
        codes=[Result.NO_SUCH_USER],
        extension=True,
        repeatable=True,
    )
    def unblock(self, params: TargetUser) -> Reply:
        """Unblock a user · 取消拉黑"""
        request = self.request
        request.services.friends.unblock(request.db, request.account, params.userId)
        return ok()
