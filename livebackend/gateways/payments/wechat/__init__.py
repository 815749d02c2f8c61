"""Payments through WeChat Pay, API v3. Needs `pip install 'livebackend[wechat]'`."""

from livebackend.gateways.payments.wechat.gateway import WechatPayments

__all__ = ["WechatPayments"]
