"""/list: friends, friend requests, live rooms."""

from livebackend.api.base_view import View
from livebackend.api.docs_sections import DocsSection
from livebackend.api.operation_declaration import operation
from livebackend.api.parameter_types import RoomCursorParameter
from livebackend.api.parameters import AuthenticatedParameters
from livebackend.api.response_types import FriendList, LiveRooms, Message
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import serialize_friends, serialize_messages, serialize_rooms


class LiveList(AuthenticatedParameters):
    after: RoomCursorParameter | None = None


class ListViews(View):
    route = "list"
    docs_section = DocsSection.LISTS

    @operation(
        "friendlist",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.UNKNOWN_ERROR,
        read_only=True,
        authenticates_in_query=True,
        idempotent=True,
        message_type=FriendList,
    )
    def friendlist(self, params: AuthenticatedParameters) -> OperationResponse:
        """List friends · 好友列表

        Returns all friends, live ones first, with the play URLs of their rooms.

        返回全部好友及其直播间的播放地址，正在直播的在前。
        """
        request = self.request
        friends = request.services.lists.friends(request.db, request.claims)
        return success(serialize_friends(friends))

    @operation(
        "messagelist",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.UNKNOWN_ERROR,
        read_only=True,
        authenticates_in_query=True,
        idempotent=True,
        message_type=list[Message],
    )
    def messagelist(self, params: AuthenticatedParameters) -> OperationResponse:
        """List friend requests · 消息列表

        Returns the received and sent friend requests, newest first.

        返回收到和发出的好友申请，最新的在前。
        """
        request = self.request
        messages = request.services.lists.messages(request.db, request.claims)
        return success(serialize_messages(messages))

    @operation(
        "livelist",
        parameters=LiveList,
        default_error=ResultCode.UNKNOWN_ERROR,
        read_only=True,
        documented=False,
        idempotent=True,
        message_type=LiveRooms,
    )
    def livelist(self, params: LiveList) -> OperationResponse:
        """List live rooms · 直播列表

        Returns the live rooms of all hosts, newest first, 50 on a page.

        返回所有正在直播的直播间，最新的在前，每页50个。
        """
        request = self.request
        rooms, next_cursor = request.services.live_rooms.list(request.db, after=params.after)
        return success(serialize_rooms(rooms, next_cursor))
