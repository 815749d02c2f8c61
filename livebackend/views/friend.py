"""/friend: user search, friend requests, friendships, blocks."""

from typing import Annotated, Literal

from livebackend.api.base_view import View
from livebackend.api.bilingual_text import documented_field
from livebackend.api.docs_sections import DocsSection
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.operation_declaration import operation
from livebackend.api.parameter_types import MessageIdParameter, Phone, UserId
from livebackend.api.parameters import AuthenticatedParameters, ErrorCode
from livebackend.api.response_types import Flag, Profile
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import search_result_flag, serialize_profile
from livebackend.core.errors import (
    AccountRemoved,
    AlreadyFriends,
    BlockLimitReached,
    FriendLimitReached,
    MessageIdsMismatch,
    MessageOfAnotherUser,
    NotFriends,
    OwnAccount,
    OwnFriendLimitReached,
    RequestNotOpen,
    UnknownMessage,
    UnknownUser,
    UserBlocked,
)


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
    docs_section = DocsSection.FRIENDS

    @operation(
        "search",
        parameters=TargetUser,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.UNKNOWN_USER],
        errors=[UnknownUser],
        read_only=True,
        rate_limits=["search"],
        unknown_user_limit="unknown_users",
        idempotent=True,
        message_type=Profile,
        extra_fields={"flag": Flag},
    )
    def search(self, params: TargetUser) -> OperationResponse:
        """Find a user by phone number · 用户搜索

        Returns the profile of a user, and whether the user is a friend.

        返回用户资料，以及是否已是好友。
        """
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
        errors=[
            UnknownUser,
            OwnAccount,
            AccountRemoved,
            AlreadyFriends,
            UserBlocked,
            OwnFriendLimitReached,
            FriendLimitReached,
        ],
        rate_limits=["friend_requests"],
        unknown_user_limit="unknown_users",
        already_done_reason=ErrorReason.ALREADY_FRIENDS,
    )
    def add(self, params: TargetUser) -> OperationResponse:
        """Send a friend request · 添加好友

        Sends a friend request. If the other user has sent one, both are friends at once.

        发送好友申请。若对方已发出申请，则立即互为好友。
        """
        request = self.request
        request.services.friends.add(request.db, request.current_user, params.userId)
        return success()

    @operation(
        "dealMessage",
        parameters=DealMessage,
        default_error=ResultCode.UNKNOWN_ERROR,
        errors=[
            MessageIdsMismatch,
            MessageOfAnotherUser,
            RequestNotOpen,
            UnknownMessage,
            AccountRemoved,
            OwnFriendLimitReached,
            FriendLimitReached,
        ],
        rate_limits=["friend_changes"],
        idempotent=True,
    )
    def deal_message(self, params: DealMessage) -> OperationResponse:
        """Accept a friend request or delete a message · 消息处理

        Accepts a received friend request, or deletes a message of the message list.

        同意收到的好友申请，或删除消息列表中的一条消息。
        """
        request, friends = self.request, self.request.services.friends
        action = friends.accept if params.behaviour == "accept" else friends.delete_message
        action(request.db, request.current_user, params.userId, params.verifyId, params.objectId)
        return success()

    @operation(
        "delete",
        parameters=FriendTarget,
        default_error=ResultCode.UNKNOWN_ERROR,
        errors=[NotFriends, AccountRemoved],
        rate_limits=["friend_changes"],
        already_done_reason=ErrorReason.NOT_FRIENDS,
    )
    def unfriend(self, params: FriendTarget) -> OperationResponse:
        """Remove a friend · 删除好友

        Ends the friendship of both users.

        解除双方的好友关系。
        """
        request = self.request
        request.services.friends.unfriend(request.db, request.current_user, params.userId)
        return success()

    @operation(
        "block",
        parameters=BlockTarget,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.UNKNOWN_USER],
        errors=[UnknownUser, OwnAccount, AccountRemoved, BlockLimitReached],
        rate_limits=["friend_changes"],
        unknown_user_limit="unknown_users",
        documented=False,
        idempotent=True,
    )
    def block(self, params: BlockTarget) -> OperationResponse:
        """Block a user · 拉黑

        Ends the friendship, and hides friend requests of the blocked user.

        解除好友关系，并隐藏对方的好友申请。
        """
        request = self.request
        request.services.friends.block(request.db, request.current_user, params.userId)
        return success()

    @operation(
        "unblock",
        parameters=BlockTarget,
        default_error=ResultCode.UNKNOWN_ERROR,
        error_codes=[ResultCode.UNKNOWN_USER],
        errors=[UnknownUser, OwnAccount, AccountRemoved],
        rate_limits=["friend_changes"],
        unknown_user_limit="unknown_users",
        documented=False,
        idempotent=True,
    )
    def unblock(self, params: BlockTarget) -> OperationResponse:
        """Unblock a user · 取消拉黑

        Shows later friend requests of the user again.

        恢复显示对方之后的好友申请。
        """
        request = self.request
        request.services.friends.unblock(request.db, request.current_user, params.userId)
        return success()
