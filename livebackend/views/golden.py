"""/golden: coins. The document prints /friend for these calls and links to /golden: both do."""

from typing import Annotated

from livebackend.api.declaration import operation
from livebackend.api.parameter_types import (
    Coins,
    Cursor,
    Description,
    Money,
    PageLength,
    Phone,
    RequestId,
)
from livebackend.api.parameters import LoggedIn, Says
from livebackend.api.response_types import Balance, Giver, Order, Records
from livebackend.api.responses import ok
from livebackend.api.result_codes import Result
from livebackend.api.serializers import giver_card, record_card
from livebackend.api.view import View
from livebackend.ledger.history import RECORDS_MAX, Place, balance, records, top_givers


class Refill(LoggedIn):
    money: Money
    requestId: RequestId | None = None


class SendGift(LoggedIn):
    value: Coins
    object: Annotated[Phone, Says("the host's phone", "主播id", "13800000001")]
    description: Description
    requestId: RequestId | None = None


class ListRecords(LoggedIn):
    # As the page before gave it.
    before: Cursor | None = None
    limit: PageLength = RECORDS_MAX


class Ranking(LoggedIn):
    object: Annotated[Phone, Says("the host's phone", "主播id", "13800000001")]


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
    def refill(self, given):
        """Buy coins · 充值"""
        order = self.request.services.refills.refill(
            self.request.account.id, yuan=given.money, request_id=given.requestId
        )
        return ok(order)

    @operation(
        "send_gift",
        params=SendGift,
        refusal=Result.NOT_UPDATED,
        transaction=False,
        identifies=True,
    )
    def send_gift(self, given):
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
    def balance(self, given):
        """Tell how many coins one has · 金币余额"""
        return ok({"coins": balance(self.request.db, self.request.account.id)})

    @operation(
        "records",
        params=ListRecords,
        refusal=Result.NOT_UPDATED,
        extension=True,
        repeatable=True,
        message=Records,
    )
    def records(self, given):
        """List what one's coins did, the newest first · 金币记录"""
        before = Place(*map(int, given.before.split("-"))) if given.before else None
        found, place = records(
            self.request.db, self.request.account.id, before=before, limit=given.limit
        )
        return ok(
            {
                "records": [record_card(record) for record in found],
                "before": f"{place.transfer_id}-{place.coins}" if place else None,
            }
        )

    @operation(
        "ranking",
        params=Ranking,
        refusal=Result.NOT_UPDATED,
        extension=True,
        repeatable=True,
        message=list[Giver],
    )
    def ranking(self, given):
        """List who gave a host most · 送礼排行"""
        return ok([giver_card(giver) for giver in top_givers(self.request.db, host=given.object)])
