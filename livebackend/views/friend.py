"""/friend: user search, friend requests, friendships, blocks."""

from typing import Annotated, Literal

from livebackend.api.base_view import View
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.operation_declaration import operation
from livebackend.api.parameter_types import MessageIdParameter, Phone, UserId
from livebackend.api.parameters import AuthenticatedParameters, ErrorCode, documented_field
from livebackend.api.response_types import Flag, Profile
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import search_result_flag, serialize_profile


class TargetUser(AuthenticatedParameters):
    userId: Annotated[
        Phone,
        ErrorCode(ResultCode.UNKNOWN_USER),
        documented_field("phone number of the other user", "目标用户的手机号", "13800000002"),
    ]


class BlockTarget(AuthenticatedParameters):
    userId: Annotated[
        UserId,
        ErrorCode(ResultCode.UNKNOWN_USER),
        documented_field(
            "phone number or public ID of the other user",
            "目标用户的手机号或公开标识",
            "13800000002",
        ),
    ]


class FriendTarget(AuthenticatedParameters):
    userId: Annotated[
        Phone, documented_field("phone number of the friend", "好友的手机号", "13800000002")
    ]


class DealMessage(AuthenticatedParameters):
    userId: Annotated[
        Phone,
        documented_field(
            "phone number of the user that sent the request", "申请者的手机号", "13800000001"
        ),
    ]
    verifyId: Annotated[
        MessageIdParameter,
        documented_field(
            "verifyId from the message list",
            "消息列表中的 verifyId",
            "13800000002,1483669725799000",
        ),
    ]
    objectId: Annotated[
        MessageIdParameter,
        documented_field(
            "objectId from the message list",
            "消息列表中的 objectId",
            "13800000001,1483669725799000",
        ),
    ]
    behaviour: Annotated[
        Literal["accept", "delete"],
        documented_field(
            "accept the request or delete the message", "accept 同意申请，delete 删除消息", "accept"
        ),
    ]


class FriendViews(View):
    route = "friend"
    docs_section = "Friends · 用户管理"

    @operation(
        "search",
        parameters=TargetUser,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.UNKNOWN_USER],
        read_only=True,
        rate_limits=["search"],
        unknown_user_limit="unknown_users",
        idempotent=True,
        message_type=Profile,
        extra_fields={"flag": Flag},
    )
    def search(self, params: TargetUser) -> OperationResponse:
        """Find a user by phone number · 用户搜索"""
        request = self.request
        result = request.services.friends.search(request.db, request.current_user, params.userId)
        return success(
            serialize_profile(result.profile), flag=search_result_flag(result, request.current_user)
        )

    @operation(
        "add",
        parameters=TargetUser,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.UNKNOWN_USER, ResultCode.ALREADY_FRIENDS],
        rate_limits=["friend_requests"],
        unknown_user_limit="unknown_users",
        already_done_reason=ErrorReason.ALREADY_FRIENDS,
    )
    def add(self, params: TargetUser) -> OperationResponse:
        """Send a friend request · 添加好友"""
        request = self.request
        request.services.friends.add(request.db, request.current_user, params.userId)
        return success()

    @operation(
        "dealMessage",
        parameters=DealMessage,
        default_error=ResultCode.UNKNOWN_ERROR,
        rate_limits=["friend_changes"],
        idempotent=True,
    )
    def deal_message(self, params: DealMessage) -> OperationResponse:
        """Accept a friend request or delete a message · 消息处理"""
        request, friends = self.request, self.request.services.friends
        action = friends.accept if params.behaviour == "accept" else friends.delete_message
        action(request.db, request.current_user, params.userId, params.verifyId, params.objectId)
        return success()

    @operation(
        "delete",
        parameters=FriendTarget,
        default_error=ResultCode.UNKNOWN_ERROR,
        rate_limits=["friend_changes"],
        already_done_reason=ErrorReason.NOT_FRIENDS,
    )
    def unfriend(self, params: FriendTarget) -> OperationResponse:
        """Remove a friend · 删除好友"""
        request = self.request
        request.services.friends.unfriend(request.db, request.current_user, params.userId)
        return success()

    @operation(
        "block",
        parameters=BlockTarget,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.UNKNOWN_USER],
        rate_limits=["friend_changes"],
        unknown_user_limit="unknown_users",
        documented=False,
        idempotent=True,
    )
    def block(self, params: BlockTarget) -> OperationResponse:
        """Block a user · 拉黑

        Ends the friendship and hides friend requests of the blocked user.
        """
        request = self.request
        request.services.friends.block(request.db, request.current_user, params.userId)
        return success()

    @operation(
        "unblock",
        parameters=BlockTarget,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.UNKNOWN_USER],
        rate_limits=["friend_changes"],
        unknown_user_limit="unknown_users",
        documented=False,
        idempotent=True,
    )
    def unblock(self, params: BlockTarget) -> OperationResponse:
        """Unblock a user · 取消拉黑"""
        request = self.request
        request.services.friends.unblock(request.db, request.current_user, params.userId)
        return success()
