"""Old names in ini files that still work for one release; a warning tells the new one."""

import logging
from collections.abc import Mapping

log = logging.getLogger(__name__)

# Dotted names of classes, in settings.
CLASSES: Mapping[str, str] = {
    "livebackend.gateways.payments.EmbeddedPayments": (
        "livebackend.development.payments.DevelopmentPayments"
    ),
    "livebackend.gateways.qiniu_sms.QiniuSms": "livebackend.gateways.sms.qiniu.QiniuSms",
    "livebackend.gateways.sms.EmbeddedSms": "livebackend.development.sms.DevelopmentSms",
    "livebackend.gateways.streams.EmbeddedStreams": (
        "livebackend.development.streams.DevelopmentStreams"
    ),
    "livebackend.gateways.streams.SelfHosted": "livebackend.gateways.streams.NginxRtmpStreams",
    "livebackend.gateways.wechat_payments.WechatPayments": (
        "livebackend.gateways.payments.wechat.WechatPayments"
    ),
}

# Modules of classes that the logging sections name.
MODULES: Mapping[str, str] = {"livebackend.logs": "livebackend.monitoring.log_formatters"}

# Loggers that the logging sections configure. A logger without a section needs no entry.
LOGGERS: Mapping[str, str] = {
    "livebackend.gateways.calls": "livebackend.gateways.http_client",
    "livebackend.gateways.payments": "livebackend.development.payments",
    "livebackend.gateways.qiniu_sms": "livebackend.gateways.sms.qiniu",
    "livebackend.gateways.streams.self_hosted": "livebackend.gateways.streams.nginx_rtmp",
    "livebackend.gateways.wechat_bills": "livebackend.gateways.payments.wechat.bills",
    "livebackend.gateways.wechat_certificates": "livebackend.gateways.payments.wechat.certificates",
    "livebackend.gateways.wechat_payments": "livebackend.gateways.payments.wechat.gateway",
    "livebackend.ledger_writer": "livebackend.ledger.batch_writer",
    "livebackend.metrics": "livebackend.monitoring.metrics",
    "livebackend.metrics_listener": "livebackend.monitoring.metrics_server",
    "livebackend.services.passwords": "livebackend.services.password_hashing",
    "livebackend.services.pictures": "livebackend.services.avatars",
    "livebackend.services.streams": "livebackend.services.stream_monitor",
    "livebackend.sweeper": "livebackend.housekeeping.periodic_tasks",
    "livebackend.views.errors": "livebackend.api.exception_views",
}


def current_class(dotted: str) -> str:
    """Return the present name of a class."""
    current = CLASSES.get(dotted, dotted)
    if current != dotted:
        log.warning("%s is deprecated: it is %s now", dotted, current)
    return current


def configure_renamed_loggers() -> None:
    """Give loggers what the logging sections say of their old names."""
    for old, current in LOGGERS.items():
        configured = logging.root.manager.loggerDict.get(old)
        if not isinstance(configured, logging.Logger):
            continue
        if configured.level == logging.NOTSET and not configured.handlers:
            continue
        logger = logging.getLogger(current)
        logger.setLevel(configured.level)
        logger.propagate = configured.propagate
        for handler in configured.handlers:
            logger.addHandler(handler)
        log.warning("the logger %s is deprecated: it is %s now", old, current)
