"""/golden: coins. The document prints /friend for these calls and links to /golden: both do."""

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
    object: Annotated[Phone, described("the host's phone", "主播id", "13800000001")]
    description: Description
    requestId: RequestId | None = None


class ListRecords(LoggedIn):
    # As the page before gave it.
    before: RecordsPosition | None = None
    limit: PageLength | None = None


class Ranking(LoggedIn):
    object: Annotated[Phone, described("the host's phone", "主播id", "13800000001")]


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
    def refill(self, given: Refill) -> Reply:
        """Buy coins · 充值"""
        order = self.request.services.refills.refill(
            self.request.account.id, yuan=given.money, request_id=given.requestId
        )
        return ok(order_card(order) if order else None)

    @operation(
        "send_gift",
        params=SendGift,
        refusal=Result.NOT_UPDATED,
        transaction=False,
        identifies=True,
    )
    def send_gift(self, given: SendGift) -> Reply:
        """Give coins to a host · 赠送礼物"""
        self.request.services.gifts.send(
            self.request.claims,
            host=given.object,
            coins=given.value,
            description=given.description,
            request_id=given.requestId,
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
    def balance(self, given: LoggedIn) -> Reply:
        """Tell how many coins one has · 金币余额"""
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
    def records(self, given: ListRecords) -> Reply:
        """List what one's coins did, the newest first · 金币记录"""
        request = self.request
        records, position = request.services.coin_history.records(
            request.db, request.account.id, before=given.before, limit=given.limit
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
    def ranking(self, given: Ranking) -> Reply:
        """List who gave a host most · 送礼排行"""
        request = self.request
        givers = request.services.coin_history.top_givers(request.db, host=given.object)
        return ok([giver_card(giver) for giver in givers])
