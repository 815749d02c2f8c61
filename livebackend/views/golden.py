"""/golden: coin operations, also on /friend, because the API document names both paths."""

from typing import Annotated

from livebackend.api.declaration import operation
from livebackend.api.parameter_types import (
    Coins,
    Description,
    Money,
    PageLength,
    Phone,
    RecordsPosition,
    RequestId,
)
from livebackend.api.parameters import LoggedIn, described
from livebackend.api.response_types import Balance, Giver, Order, Records
from livebackend.api.responses import Reply, ok
from livebackend.api.result_codes import Result
from livebackend.api.serializers import balance_card, giver_card, order_card, records_page
from livebackend.api.view import View


class Refill(LoggedIn):
    money: Money
    requestId: RequestId | None = None


class SendGift(LoggedIn):
    value: Coins
    object: Annotated[Phone, described("phone number of the host", "主播的手机号", "13800000001")]
    description: Description
    requestId: RequestId | None = None


class ListRecords(LoggedIn):
    before: RecordsPosition | None = None
    limit: PageLength | None = None


class Ranking(LoggedIn):
    object: Annotated[Phone, described("phone number of the host", "主播的手机号", "13800000001")]


class Golden(View):
    route = ("golden", "friend")
    chapter = "Coins · 金币系统"

    @operation(
        "refill",
        params=Refill,
        refusal=Result.NOT_UPDATED,
        transaction=False,
        message=Order | None,
    )
    def refill(self, params: Refill) -> Reply:
        """Buy coins · 充值"""
        order = self.request.services.refills.refill(
            self.request.account.id, yuan=params.money, request_id=params.requestId
        )
        return ok(order_card(order) if order else None)

    @operation(
        "send_gift",
        params=SendGift,
        refusal=Result.NOT_UPDATED,
        transaction=False,
        identifies=True,
    )
    def send_gift(self, params: SendGift) -> Reply:
        """Send a gift to a host · 赠送礼物"""
        self.request.services.gifts.send(
            self.request.claims,
            host=params.object,
            coins=params.value,
            description=params.description,
            request_id=params.requestId,
        )
        return ok()

    @operation(
        "balance",
        params=LoggedIn,
        refusal=Result.NOT_UPDATED,
        extension=True,
        repeatable=True,
        message=Balance,
    )
    def balance(self, params: LoggedIn) -> Reply:
        """Coin balance · 金币余额"""
        request = self.request
        coins = request.services.coin_history.balance(request.db, request.account.id)
        return ok(balance_card(coins))

    @operation(
        "records",
        params=ListRecords,
        refusal=Result.NOT_UPDATED,
        extension=True,
        repeatable=True,
        message=Records,
    )
    def records(self, params: ListRecords) -> Reply:
        """List coin transfers, newest first · 金币记录"""
        request = self.request
        records, position = request.services.coin_history.records(
            request.db, request.account.id, before=params.before, limit=params.limit
        )
        return ok(records_page(records, position))

    @operation(
        "ranking",
        params=Ranking,
        refusal=Result.NOT_UPDATED,
        extension=True,
        repeatable=True,
        message=list[Giver],
    )
    def ranking(self, params: Ranking) -> Reply:
        """List the top gift senders of a host · 送礼排行"""
        request = self.request
        givers = request.services.coin_history.top_givers(request.db, host=params.object)
        return ok([giver_card(giver) for giver in givers])
