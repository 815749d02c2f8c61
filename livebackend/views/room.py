"""/room: opening and closing the user's room, heartbeats."""

from livebackend.api.base_view import View
from livebackend.api.docs_sections import DocsSection
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.operation_declaration import operation
from livebackend.api.parameter_types import Title
from livebackend.api.parameters import AuthenticatedParameters
from livebackend.api.response_types import StreamStatus, StreamText
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import serialize_heartbeat
from livebackend.core.errors import RoomNotOpen, StreamNotCreated


class GoLive(AuthenticatedParameters):
    title: Title | None = None


class RoomViews(View):
    route = "room"
    docs_section = DocsSection.ROOMS

    @operation(
        "live",
        parameters=GoLive,
        default_error=ResultCode.BAD_REQUEST,
        errors=[StreamNotCreated],
        transaction=False,
        rate_limits=["rooms"],
        idempotent=True,
        message_type=StreamText,
    )
    def live(self, params: GoLive) -> OperationResponse:
        """Go live · 直播请求

        Opens the user's room, and returns its stream as a JSON string. If the room is open,
        the stream is the same.

        开启直播间，并以 JSON 字符串返回直播流信息。直播间已开启时返回同一直播流。
        """
        return success(
            self.request.services.rooms.go_live(self.request.current_user.id, title=params.title)
        )

    @operation(
        "leave",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.BAD_REQUEST,
        errors=[RoomNotOpen],
        transaction=False,
        rate_limits=["room_updates"],
        already_done_reason=ErrorReason.ROOM_NOT_OPEN,
    )
    def leave(self, params: AuthenticatedParameters) -> OperationResponse:
        """Close the room · 主播离开

        Closes the user's room and disables its stream.

        关闭直播间并禁用直播流。
        """
        self.request.services.rooms.leave(self.request.current_user.id)
        return success()

    @operation(
        "heartbeat",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.BAD_REQUEST,
        errors=[RoomNotOpen],
        transaction=False,
        rate_limits=["room_updates"],
        documented=False,
        idempotent=True,
        message_type=StreamStatus,
    )
    def heartbeat(self, params: AuthenticatedParameters) -> OperationResponse:
        """Get the stream status · 直播心跳

        Returns whether the provider receives the user's stream, and the publish URL.

        返回服务商是否正在接收直播流，以及推流地址。
        """
        status = self.request.services.rooms.heartbeat(self.request.current_user.id)
        return success(serialize_heartbeat(status))
