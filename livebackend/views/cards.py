"""Rows as the app reads them: a profile, a friend, a message, a room, coins that moved, a giver."""

from datetime import datetime
from typing import Any

from livebackend.services.accounts import Profile
from livebackend.services.friends import Friend, Message
from livebackend.services.live_rooms import LiveRoom
from livebackend.services.records import Giver, Record


def profile_card(profile: Profile) -> dict[str, Any]:
    return {
        "userId": profile.phone,
        "nickname": profile.nickname,
        "gender": profile.gender,
        "headImage": profile.head_image,
    }


def friend_card(friend: Friend) -> dict[str, Any]:
    return {
        **profile_card(friend.profile),
        "liveStatus": "on" if friend.play_urls else "off",
        "title": friend.title,
        "playUrl": friend.play_urls,
    }


def message_card(message: Message) -> dict[str, Any]:
    """`flag`: 0 for me to accept, 1 accepted by me, 2 waiting for the other, 3 agreed."""
    return {
        "verifyId": str(message.addressee_copy),
        "objectId": str(message.applicant_copy),
        **profile_card(message.other),
        "flag": 2 * message.i_applied + message.accepted,
        "time": _time(message.sent_at),
    }


def room_card(room: LiveRoom) -> dict[str, Any]:
    return {
        **profile_card(room.profile),
        "title": room.title,
        "playUrl": room.play_urls,
        "time": _time(room.place.started_at),
    }


def record_card(record: Record) -> dict[str, Any]:
    """`coins` is negative for what was given away, `left` is what there was afterwards."""
    return {
        "id": record.id,
        "kind": record.kind.name.lower(),
        "coins": record.coins,
        "left": record.left,
        "nickname": record.nickname,
        "description": record.description,
        "time": _time(record.at),
    }


def giver_card(giver: Giver) -> dict[str, Any]:
    return {
        "nickname": giver.nickname,
        "headImage": giver.head_image,
        "coins": giver.coins,
    }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
