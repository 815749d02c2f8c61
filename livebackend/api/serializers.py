"""Converts results of the services to messages of responses.

Rows of long lists are unpacked by position: access by name doubles the time of a conversion.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from livebackend.api import response_types
from livebackend.api.positions import (
    format_message_id,
    format_records_position,
    format_rooms_position,
    moment,
)
from livebackend.ledger import history
from livebackend.ledger.history import Giver, Record
from livebackend.ledger.transfers import Kind
from livebackend.services import live_rooms
from livebackend.services.accounts import Profile
from livebackend.services.friends import Found
from livebackend.services.lists import Friend, Message
from livebackend.services.live_rooms import LiveRoom
from livebackend.services.login_tokens import Account
from livebackend.services.payment_orders import PlacedOrder
from livebackend.services.rooms import Beat

_FLAGS: tuple[Literal[0, 1, 2, 3], ...] = (0, 1, 2, 3)
_KINDS: Mapping[Kind, Literal["gift", "refill", "reversal"]] = {
    Kind.GIFT: "gift",
    Kind.REFILL: "refill",
    Kind.REVERSAL: "reversal",
}


def profile_card(profile: Profile) -> response_types.Profile:
    return {
        "userId": profile.phone,
        "nickname": profile.nickname,
        "gender": profile.gender,
        "headImage": profile.head_image,
    }


def friend_card(friend: Friend) -> response_types.Friend:
    phone, nickname, gender, head_image, title, play_urls = friend
    return {
        "userId": phone,
        "nickname": nickname,
        "gender": gender,
        "headImage": head_image,
        "liveStatus": "on" if play_urls else "off",
        "title": title,
        "playUrl": play_urls,
    }


def friends_list(friends: Sequence[Friend]) -> response_types.Friends:
    return {"count": len(friends), "friends": [friend_card(friend) for friend in friends]}


def found_flag(result: Found, searcher: Account) -> response_types.Flag:
    """Return "-1" for the searching user's own account, "1" for a friend, otherwise "0"."""
    if result.account_id == searcher.id:
        return "-1"
    return "1" if result.is_friend else "0"


def message_card(message: Message) -> response_types.Message:
    own_phone, sent_at_us, is_sender, accepted, phone, nickname, gender, head_image = message
    own_id = format_message_id(own_phone, sent_at_us)
    other_id = format_message_id(phone, sent_at_us)
    return {
        # verifyId is the recipient's copy of the request, objectId the sender's.
        "verifyId": other_id if is_sender else own_id,
        "objectId": own_id if is_sender else other_id,
        "userId": phone,
        "nickname": nickname,
        "gender": gender,
        "headImage": head_image,
        "flag": _FLAGS[2 * is_sender + accepted],
        "time": _time(moment(sent_at_us)),
    }


def room_card(room: LiveRoom) -> response_types.LiveRoom:
    return {
        **profile_card(room.profile),
        "title": room.title,
        "playUrl": room.play_urls,
        "time": _time(room.place.started_at),
    }


def rooms_page(
    rooms: Sequence[LiveRoom], position: live_rooms.Place | None
) -> response_types.LiveRooms:
    return {
        "rooms": [room_card(room) for room in rooms],
        "next": format_rooms_position(position) if position else None,
    }


def record_card(record: Record) -> response_types.Record:
    return {
        "id": record.id,
        "kind": _KINDS[record.kind],
        "coins": record.coins,
        "left": record.left,
        "nickname": record.nickname,
        "description": record.description,
        "time": _time(record.at),
    }


def records_page(
    records: Sequence[Record], position: history.Place | None
) -> response_types.Records:
    return {
        "records": [record_card(record) for record in records],
        "before": format_records_position(position) if position else None,
    }


def balance_card(coins: int) -> response_types.Balance:
    return {"coins": coins}


def order_card(order: PlacedOrder) -> response_types.Order:
    return {
        "provider": order.provider,
        "orderId": order.order_id,
        "fen": order.fen,
        "coins": order.coins,
        "state": order.state,
        "pay": order.pay,
    }


def heartbeat_card(beat: Beat) -> response_types.Beat:
    return {"stream": "on" if beat.on_air else "off", "publishUrl": beat.publish_url}


def giver_card(giver: Giver) -> response_types.Giver:
    return {
        "nickname": giver.nickname,
        "headImage": giver.head_image,
        "coins": giver.coins,
    }


def _time(at: datetime) -> str:
    return f"{at.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
