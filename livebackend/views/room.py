"""/room: opening and closing the user's room, heartbeats."""

from livebackend.api.base_view import View
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.operation_declaration import operation
from livebackend.api.parameter_types import Title
from livebackend.api.parameters import AuthenticatedParameters
from livebackend.api.response_types import HeartbeatResponse, StreamText
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import serialize_heartbeat


class GoLive(AuthenticatedParameters):
    title: Title | None = None


class RoomViews(View):
    route = "room"
    docs_section = "Rooms · 房间"

    @operation(
        "live",
        parameters=GoLive,
        default_error=ResultCode.BAD_REQUEST,
        transaction=False,
        rate_limits=["rooms"],
        idempotent=True,
        message_type=StreamText,
    )
    def live(self, params: GoLive) -> OperationResponse:
        """Go live; the response field message is the stream as a JSON string · 直播请求"""
        return success(
            self.request.services.rooms.go_live(self.request.current_user.id, title=params.title)
        )

    @operation(
        "leave",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.BAD_REQUEST,
        transaction=False,
        rate_limits=["room_updates"],
        already_done_reason=ErrorReason.ROOM_NOT_OPEN,
    )
    def leave(self, params: AuthenticatedParameters) -> OperationResponse:
        """Close the room · 主播离开"""
        self.request.services.rooms.leave(self.request.current_user.id)
        return success()

    @operation(
        "heartbeat",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.BAD_REQUEST,
        transaction=False,
        rate_limits=["room_updates"],
        documented=False,
        idempotent=True,
        message_type=HeartbeatResponse,
    )
    def heartbeat(self, params: AuthenticatedParameters) -> OperationResponse:
        """Get the stream status and the publish URL · 直播心跳"""
        status = self.request.services.rooms.heartbeat(self.request.current_user.id)
        return success(serialize_heartbeat(status))
