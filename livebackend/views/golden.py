"""/golden: coin operations, also on /friend (the API document names both paths)."""

from typing import Annotated

from livebackend.api.base_view import View
from livebackend.api.bilingual_text import documented_field
from livebackend.api.docs_sections import DocsSection
from livebackend.api.operation_declaration import operation
from livebackend.api.parameter_types import (
    Coins,
    Description,
    HistoryCursorParameter,
    Money,
    PageLength,
    RequestId,
    UserId,
)
from livebackend.api.parameters import AuthenticatedParameters
from livebackend.api.response_types import Balance, Giver, OrderToPay, RecordList
from livebackend.api.responses import OperationResponse, success
from livebackend.api.result_codes import ResultCode
from livebackend.api.serializers import (
    serialize_balance,
    serialize_giver,
    serialize_order,
    serialize_records,
)
from livebackend.core.errors import (
    BalanceLimitReached,
    InsufficientCoins,
    LedgerBusy,
    OwnAccount,
    PaymentNotPlaced,
    RateLimited,
    RefillsDisabled,
    RequestIdReused,
    UnknownUser,
)


class Refill(AuthenticatedParameters):
    money: Money
    requestId: RequestId | None = None


class SendGift(AuthenticatedParameters):
    value: Coins
    object: Annotated[
        UserId,
        documented_field(
            "phone number or public ID of the host", "主播的手机号或公开标识", "13800000001"
        ),
    ]
    description: Description
    requestId: RequestId | None = None


class ListRecords(AuthenticatedParameters):
    before: HistoryCursorParameter | None = None
    limit: PageLength | None = None


class Ranking(AuthenticatedParameters):
    object: Annotated[
        UserId,
        documented_field(
            "phone number or public ID of the host", "主播的手机号或公开标识", "13800000001"
        ),
    ]


class GoldenViews(View):
    route = ("golden", "friend")
    docs_section = DocsSection.COINS

    @operation(
        "refill",
        parameters=Refill,
        default_error=ResultCode.COINS_NOT_UPDATED,
        errors=[
            RefillsDisabled,
            RequestIdReused,
            BalanceLimitReached,
            LedgerBusy,
            PaymentNotPlaced,
            RateLimited,
        ],
        transaction=False,
        service_limits=["refill", "refill_retries"],
        message_type=OrderToPay,
    )
    def refill(self, params: Refill) -> OperationResponse:
        """Buy coins · 充值

        Opens an order of coins, or credits the coins directly if the server is configured
        so.

        创建充值订单，或直接到账（取决于服务器设置）。
        """
        order = self.request.services.refills.refill(
            self.request.current_user.id, yuan=params.money, request_id=params.requestId
        )
        return success(serialize_order(order) if order else None)

    @operation(
        "send_gift",
        parameters=SendGift,
        default_error=ResultCode.COINS_NOT_UPDATED,
        errors=[
            UnknownUser,
            OwnAccount,
            InsufficientCoins,
            BalanceLimitReached,
            RequestIdReused,
            LedgerBusy,
            RateLimited,
        ],
        transaction=False,
        authenticates_in_query=True,
        service_limits=["gifts", "gift_retries", "unknown_users"],
    )
    def send_gift(self, params: SendGift) -> OperationResponse:
        """Send a gift to a host · 赠送礼物

        Moves coins from the user to a host, who can be offline.

        将本人的金币转给主播，主播可以不在线。
        """
        self.request.services.gifts.send(
            self.request.claims,
            host=params.object,
            coins=params.value,
            description=params.description,
            request_id=params.requestId,
        )
        return success()

    @operation(
        "balance",
        parameters=AuthenticatedParameters,
        default_error=ResultCode.COINS_NOT_UPDATED,
        documented=False,
        idempotent=True,
        message_type=Balance,
    )
    def balance(self, params: AuthenticatedParameters) -> OperationResponse:
        """Get the coin balance · 金币余额

        Returns the user's balance.

        返回本人的金币余额。
        """
        request = self.request
        coins = request.services.coin_history.balance(request.db, request.current_user.id)
        return success(serialize_balance(coins))

    @operation(
        "records",
        parameters=ListRecords,
        default_error=ResultCode.COINS_NOT_UPDATED,
        documented=False,
        idempotent=True,
        message_type=RecordList,
    )
    def records(self, params: ListRecords) -> OperationResponse:
        """List coin transfers · 金币记录

        Returns the user's coin transfers, newest first, in pages.

        分页返回本人的金币记录，最新的在前。
        """
        request = self.request
        records, next_cursor = request.services.coin_history.records(
            request.db, request.current_user.id, before=params.before, limit=params.limit
        )
        return success(serialize_records(records, next_cursor))

    @operation(
        "ranking",
        parameters=Ranking,
        default_error=ResultCode.COINS_NOT_UPDATED,
        errors=[UnknownUser],
        unknown_user_limit="unknown_users",
        documented=False,
        idempotent=True,
        message_type=list[Giver],
    )
    def ranking(self, params: Ranking) -> OperationResponse:
        """List the top gift senders of a host · 送礼排行

        Returns the users who sent the most coins in the newest 10,000 gifts of the host.

        返回该主播最近10000个礼物中送出金币最多的用户。
        """
        request = self.request
        givers = request.services.coin_history.top_givers(request.db, host=params.object)
        return success([serialize_giver(giver) for giver in givers])
