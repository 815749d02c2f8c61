"""Rows as the app reads them: a profile, a friend, a message, a room."""

from typing import Any

from livebackend.services.accounts import Profile
from livebackend.services.friends import Friend, Message
from livebackend.services.live_rooms import LiveRoom


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
        "time": f"{message.sent_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }


def room_card(room: LiveRoom) -> dict[str, Any]:
    return {
        **profile_card(room.profile),
        "title": room.title,
        "playUrl": room.play_urls,
        "time": f"{room.place.started_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }
