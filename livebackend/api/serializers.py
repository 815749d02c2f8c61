"""Converts results of the services to the field `message` of responses."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import orjson

from livebackend.api import response_types
from livebackend.api.cursors import (
    format_history_cursor,
    format_room_cursor,
)
from livebackend.ledger import history
from livebackend.ledger.history import Giver, HistoryRecord
from livebackend.ledger.transfers import TransferKind
from livebackend.services import live_room_list
from livebackend.services.accounts import OwnProfile, Profile
from livebackend.services.event_streams import StreamUrl
from livebackend.services.friends import SearchResult
from livebackend.services.lists import JsonList
from livebackend.services.live_room_list import LiveRoom
from livebackend.services.login_tokens import CurrentUser
from livebackend.services.payment_orders import PlacedOrder
from livebackend.services.rooms import Heartbeat

_KINDS: Mapping[TransferKind, Literal["gift", "refill", "reversal"]] = {
    TransferKind.GIFT: "gift",
    TransferKind.REFILL: "refill",
    TransferKind.REVERSAL: "reversal",
}


def serialize_profile(profile: Profile) -> response_types.Profile:
    return {
        "userId": profile.phone,
        "nickname": profile.nickname,
        "gender": profile.gender,
        "headImage": profile.head_image,
    }


def serialize_own_profile(own_profile: OwnProfile) -> response_types.OwnProfile:
    return {**serialize_profile(own_profile.profile), "publicId": own_profile.public_id}


def serialize_friends(friends: JsonList) -> dict[str, Any]:
    """Return the friend list; its JSON has the form of `response_types.FriendList`."""
    return {"count": friends.count, "friends": orjson.Fragment(friends.entries)}


def serialize_messages(messages: JsonList) -> orjson.Fragment:
    """Return the message list; its JSON is an array of `response_types.Message`."""
    return orjson.Fragment(messages.entries)


def search_result_flag(result: SearchResult, searcher: CurrentUser) -> response_types.Flag:
    """Return "-1" for the searcher's own account, "1" for a friend, otherwise "0"."""
    if result.account_id == searcher.id:
        return "-1"
    return "1" if result.is_friend else "0"


def serialize_room(room: LiveRoom) -> response_types.LiveRoom:
    return {
        "publicId": room.public_id,
        "nickname": room.nickname,
        "gender": room.gender,
        "headImage": room.head_image,
        "title": room.title,
        "playUrl": room.play_urls,
        "time": _iso_time(room.cursor.started_at),
    }


def serialize_rooms(
    rooms: Sequence[LiveRoom], next_cursor: live_room_list.RoomCursor | None
) -> response_types.LiveRooms:
    return {
        "rooms": [serialize_room(room) for room in rooms],
        "next": format_room_cursor(next_cursor) if next_cursor else None,
    }


def serialize_record(record: HistoryRecord) -> response_types.Record:
    return {
        "id": record.id,
        "kind": _KINDS[record.kind],
        "coins": record.coins,
        "left": record.balance_after,
        "publicId": record.public_id,
        "nickname": record.nickname,
        "description": record.description,
        "time": _iso_time(record.created_at),
    }


def serialize_records(
    records: Sequence[HistoryRecord], next_cursor: history.HistoryCursor | None
) -> response_types.RecordList:
    return {
        "records": [serialize_record(record) for record in records],
        "before": format_history_cursor(next_cursor) if next_cursor else None,
    }


def serialize_balance(coins: int) -> response_types.Balance:
    return {"coins": coins}


def serialize_order(order: PlacedOrder) -> response_types.Order:
    return {
        "provider": order.provider,
        "orderId": order.order_id,
        "fen": order.fen,
        "coins": order.coins,
        "state": order.state,
        "pay": order.pay,
    }


def serialize_heartbeat(heartbeat: Heartbeat) -> response_types.StreamStatus:
    return {"stream": "on" if heartbeat.is_live else "off", "publishUrl": heartbeat.publish_url}


def serialize_stream_url(stream_url: StreamUrl) -> response_types.EventTicket:
    return {
        "url": stream_url.url,
        "expiresIn": stream_url.expires_in_s,
        "channels": [
            {"channel": channel, "seq": seq} for channel, seq in stream_url.channels.items()
        ],
    }


def serialize_giver(giver: Giver) -> response_types.Giver:
    return {
        "publicId": giver.public_id,
        "nickname": giver.nickname,
        "headImage": giver.head_image,
        "coins": giver.coins,
    }


def _iso_time(time: datetime) -> str:
    return f"{time.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
