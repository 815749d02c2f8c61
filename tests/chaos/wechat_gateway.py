"""The WeChat Pay gateway, for a server whose requests go to another address."""

import os
from typing import Any, Self

import requests

from livebackend.config.settings import Settings
from livebackend.gateways.payments.wechat.client import API_URL
from livebackend.gateways.payments.wechat.gateway import WechatPayments

# Environment variable with the URL that replaces the URL of WeChat Pay.
URL_VARIABLE = "CHAOS_WECHAT_URL"


class RedirectedWechatPayments(WechatPayments):
    """Sends the requests for WeChat Pay to the URL in the environment."""

    @classmethod
    def from_settings(cls, settings: Settings, **clocks: Any) -> Self:
        send_request, url = requests.Session.request, os.environ[URL_VARIABLE]

        def redirect(self: requests.Session, method: str, target: str, **options: Any) -> Any:
            return send_request(self, method, target.replace(API_URL, url), **options)

        requests.Session.request = redirect  # type: ignore[method-assign, assignment]
        return super().from_settings(settings, **clocks)
