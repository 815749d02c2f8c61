"""/golden: coins. The document prints /friend for these calls and links to /golden: both do."""

from typing import Annotated

from livebackend.operation import View, operation
from livebackend.params import Coins, Description, LoggedIn, Money, Phone, RequestId, Says
from livebackend.results import Result, ok


class Refill(LoggedIn):
    money: Money
    requestId: RequestId | None = None


class SendGift(LoggedIn):
    value: Coins
    object: Annotated[Phone, Says("the host's phone", "主播id", "13800000001")]
    description: Description
    requestId: RequestId | None = None


class Golden(View):
    route = ("golden", "friend")
    chapter = "Coins · 金币系统"

    @operation(
        "refill",
        params=Refill,
        refusal=Result.NOT_UPDATED,
        transaction=False,
        limits=["refill"],
    )
    def refill(self, given):
        """Buy coins · 充值"""
        self.request.house.golden.refill(
            self.request.account.id, yuan=given.money, request_id=given.requestId
        )
        return ok()

    @operation("send_gift", params=SendGift, refusal=Result.NOT_UPDATED, transaction=False)
    def send_gift(self, given):
        """Give coins to a host · 赠送礼物"""
        self.request.house.golden.send_gift(
            self.request.account.id,
            host=given.object,
            coins=given.value,
            description=given.description,
            request_id=given.requestId,
        )
        return ok()
