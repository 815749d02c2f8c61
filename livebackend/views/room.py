"""/room: opening and closing the user's room, heartbeats."""

from livebackend.api.declaration import operation
from livebackend.api.error_reasons import Reason
from livebackend.api.parameter_types import Title
from livebackend.api.parameters import LoggedIn
from livebackend.api.response_types import Beat, StreamText
from livebackend.api.responses import Reply, ok
from livebackend.api.result_codes import Result
from livebackend.api.serializers import heartbeat_card
from livebackend.api.view import View


class GoLive(LoggedIn):
    title: Title | None = None


class Room(View):
    route = "room"
    chapter = "Rooms · 房间"

    @operation(
        "live",
        params=GoLive,
        refusal=Result.BAD_REQUEST,
        transaction=False,
        repeatable=True,
        message=StreamText,
    )
    def live(self, params: GoLive) -> Reply:
        """Go live; the message is the stream as a JSON string · 直播请求"""
        return ok(self.request.services.rooms.go_live(self.request.account.id, title=params.title))

    @operation(
        "leave",
        params=LoggedIn,
        refusal=Result.BAD_REQUEST,
        transaction=False,
        already_done=Reason.NOT_LIVE,
    )
    def leave(self, params: LoggedIn) -> Reply:
        """Close the room · 主播离开"""
        self.request.services.rooms.leave(self.request.account.id)
        return ok()

    @operation(
        "heartbeat",
        params=LoggedIn,
        refusal=Result.BAD_REQUEST,
        transaction=False,
        extension=True,
        repeatable=True,
        message=Beat,
    )
    def heartbeat(self, params: LoggedIn) -> Reply:
        """Get the stream status and the publish URL · 直播心跳"""
        status = self.request.services.rooms.heartbeat(self.request.account.id)
        return ok(heartbeat_card(status))
