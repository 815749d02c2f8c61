"""Payments through WeChat Pay, API v3. Needs `pip install livebackend[wechat]`."""

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from pathlib import Path
from typing import Any, Self

from wechatpayv3 import WeChatPay, WeChatPayType

from livebackend.gateways.payments import NotGenuine, Order, Paid, PaymentFailed, check_time
from livebackend.settings import Settings

log = logging.getLogger(__name__)

# All of one call; and of it, to be connected, and for each silence.
_TOTAL_S = 3.0
_CONNECT_S, _SILENCE_S = 1.0, 2.0
_AT_ONCE = 16
# Whoever names a certificate that we do not have makes us ask WeChat, but not more often.
_LOOK_AGAIN_S = 600
_ALGORITHM = "WECHATPAY2-SHA256-RSA2048"
_NEEDED = ("app_id", "merchant", "serial", "key_file", "api_key")


class WechatPayments:
    """Places orders that WeChat's app pays, and reads WeChat's notifications.

    What WeChat signs is verified by its public key, if there is one, else by its certificates: they
    are fetched at the start and whenever a new one is named.

    Source: WeChat Pay API v3, "APP下单", "APP调起支付", "支付成功通知".
    """

    provider = "wechat"

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raises ValueError for a missing setting, and for certificates that can't be had."""
        missing = [f"wechat.{name}" for name in _NEEDED if not getattr(settings, f"wechat_{name}")]
        if missing:
            raise ValueError(f"it needs {', '.join(missing)}")
        public_key = settings.wechat_public_key_file
        try:
            pay = WeChatPay(
                wechatpay_type=WeChatPayType.APP,
                mchid=settings.wechat_merchant,
                private_key=Path(settings.wechat_key_file).read_text("ascii"),
                cert_serial_no=settings.wechat_serial,
                appid=settings.wechat_app_id,
                apiv3_key=settings.wechat_api_key,
                notify_url=settings.http_url.rstrip("/") + "/payments",
                timeout=(_CONNECT_S, _SILENCE_S),
                public_key=Path(public_key).read_text("ascii") if public_key else None,
                public_key_id=settings.wechat_public_key_id or None,
            )
        except Exception as error:  # the library raises nothing finer
            raise ValueError(str(error)) from error
        return cls(pay, settings.wechat_app_id, settings.wechat_merchant, clock=time.time)

    def __init__(
        self, pay: WeChatPay, app_id: str, merchant: str, *, clock: Callable[[], float]
    ) -> None:
        self._pay = pay
        self._app_id = app_id
        self._merchant = merchant
        self._clock = clock
        self._looked_at = 0.0
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wechat")

    def place(self, order: Order) -> dict[str, Any]:
        amount = {"total": order.fen, "currency": "CNY"}
        waiting = self._threads.submit(
            self._pay.pay,
            description=order.description,
            out_trade_no=order.order_id,
            amount=amount,
        )
        try:
            status, answer = waiting.result(_TOTAL_S)
            said = json.loads(answer)
        except TookTooLong:
            waiting.cancel()
            raise PaymentFailed(f"no answer within {_TOTAL_S} s") from None
        except Exception as error:  # the library raises nothing finer
            raise PaymentFailed(str(error)) from error
        if status != 200 or not isinstance(said, dict) or not said.get("prepay_id"):
            raise PaymentFailed(f"{status}: {str(answer)[:200]}")
        return self._call_up(str(said["prepay_id"]))

    def read(self, headers: Mapping[str, str], body: bytes) -> Paid | None:
        self._check(headers)
        try:
            news = self._pay.callback(headers, body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotGenuine("form") from error
        if not news:
            raise NotGenuine("signature")
        resource = news["resource"]
        ours = (resource.get("mchid"), resource.get("appid")) == (self._merchant, self._app_id)
        if news.get("event_type") != "TRANSACTION.SUCCESS" or not ours:
            log.warning("WeChat's notification of %s is no payment of ours", news.get("event_type"))
            return None
        amount = resource["amount"]
        if resource.get("trade_state") != "SUCCESS" or amount.get("currency", "CNY") != "CNY":
            log.error("WeChat's payment %s is none in yuan", resource.get("transaction_id"))
            return None
        return Paid(resource["out_trade_no"], resource["transaction_id"], int(amount["total"]))

    def _check(self, headers: Mapping[str, str]) -> None:
        """Refuses what makes the library stumble, or ask WeChat for strangers' certificates."""
        if headers.get("wechatpay-signature-type") != _ALGORITHM:
            raise NotGenuine("algorithm")
        if not headers.get("wechatpay-signature"):
            raise NotGenuine("signature")
        check_time(headers.get("wechatpay-timestamp", ""), now=self._clock())
        serial = headers.get("wechatpay-serial", "")
        core = self._pay._core
        if serial == core._public_key_id:
            return
        if not re.fullmatch("[0-9A-Fa-f]{1,64}", serial):
            raise NotGenuine("serial")
        known = {certificate.serial_number for certificate in core._certificates}
        if int(serial, 16) not in known:
            if self._clock() - self._looked_at < _LOOK_AGAIN_S:
                raise NotGenuine("serial")
            self._looked_at = self._clock()

    def _call_up(self, prepay_id: str) -> dict[str, Any]:
        """What the app hands to WeChat's, signed by us."""
        timestamp, nonce = str(int(self._clock())), uuid.uuid4().hex
        return {
            "appid": self._app_id,
            "partnerid": self._merchant,
            "prepayid": prepay_id,
            "package": "Sign=WXPay",
            "noncestr": nonce,
            "timestamp": timestamp,
            "sign": self._pay.sign([self._app_id, timestamp, nonce, prepay_id]),
        }
