"""The sections of the API's documentation."""

from enum import Enum

from livebackend.api.bilingual_text import BilingualText


class DocsSection(Enum):
    """A section with its title and description, in the order of the documentation.

    The Chinese titles are those of the API document.
    """

    REGISTRATION = (
        BilingualText("Registration", "注册"),
        BilingualText(
            "Verification codes, accounts, profiles and avatars.", "验证码、账号、资料和头像。"
        ),
    )
    LOGIN = (
        BilingualText("Login", "登录"),
        BilingualText("Login tokens and passwords.", "登录凭证和密码。"),
    )
    ROOMS = (
        BilingualText("Rooms", "房间"),
        BilingualText("Going live, and the user's stream.", "开播、下播和主播的直播流。"),
    )
    LISTS = (
        BilingualText("Lists", "列表"),
        BilingualText(
            "Friends, friend requests and live rooms.", "好友、好友申请和正在直播的房间。"
        ),
    )
    FRIENDS = (
        BilingualText("Friends", "用户管理"),
        BilingualText(
            "User search, friend requests, friendships and blocked users.",
            "用户搜索、好友申请、好友关系和拉黑。",
        ),
    )
    COINS = (
        BilingualText("Coins", "金币系统"),
        BilingualText(
            "Buying coins, sending gifts, balance and coin transfers.",
            "充值、赠送礼物、金币余额和金币记录。",
        ),
    )
    EVENTS = (
        BilingualText("Live events", "实时事件"),
        BilingualText("The stream of events that concern the user.", "与本人有关的实时事件流。"),
    )

    title: BilingualText
    description: BilingualText

    def __init__(self, title: BilingualText, description: BilingualText) -> None:
        self.title = title
        self.description = description
