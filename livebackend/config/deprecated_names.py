"""Deprecated names in ini files.

They work for one more release, and log a warning with the new name.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence

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

# Loggers that the logging sections configure. `livebackend.gateways.sms` and
# `livebackend.gateways.payments` are missing: they are packages with loggers of their own.
LOGGERS: Mapping[str, Sequence[str]] = {
    "livebackend.gateways.calls": ["livebackend.gateways.http_client"],
    "livebackend.gateways.qiniu_sms": ["livebackend.gateways.sms.qiniu"],
    "livebackend.gateways.streams.self_hosted": ["livebackend.gateways.streams.nginx_rtmp"],
    "livebackend.gateways.wechat_bills": ["livebackend.gateways.payments.wechat.bills"],
    "livebackend.gateways.wechat_certificates": [
        "livebackend.gateways.payments.wechat.certificates"
    ],
    "livebackend.gateways.wechat_payments": ["livebackend.gateways.payments.wechat.gateway"],
    "livebackend.ledger_writer": ["livebackend.ledger.batch_writer"],
    "livebackend.metrics": ["livebackend.monitoring.metrics"],
    "livebackend.metrics_listener": ["livebackend.monitoring.metrics_server"],
    "livebackend.services.passwords": ["livebackend.services.password_hashing"],
    "livebackend.services.pictures": ["livebackend.services.avatars"],
    "livebackend.services.streams": [
        "livebackend.services.stream_monitor",
        "livebackend.services.publish_authorization",
    ],
    "livebackend.sweeper": ["livebackend.housekeeping.periodic_tasks"],
    "livebackend.views.errors": ["livebackend.api.exception_views"],
}


def current_class(dotted: str) -> str:
    """Return the present name of a class."""
    current = CLASSES.get(dotted, dotted)
    if current != dotted:
        log.warning("%s is deprecated: use %s", dotted, current)
    return current


def current_module(dotted: str) -> str:
    """Return the present name of a module. Raises KeyError for one that was not renamed."""
    current = MODULES[dotted]
    warnings.warn(f"{dotted} is deprecated: use {current}", FutureWarning, stacklevel=2)
    return current


def configure_renamed_loggers() -> None:
    """Apply the configuration of renamed loggers to their new names."""
    for old, current in LOGGERS.items():
        configured = logging.root.manager.loggerDict.get(old)
        if isinstance(configured, logging.Logger) and _is_configured(configured):
            log.warning("the logger %s is deprecated: use %s", old, ", ".join(current))
            for name in current:
                _copy_configuration(configured, logging.getLogger(name))
            # The next call must not copy it again.
            configured.setLevel(logging.NOTSET)
            configured.handlers.clear()


def _is_configured(logger: logging.Logger) -> bool:
    return logger.level != logging.NOTSET or bool(logger.handlers)


def _copy_configuration(source: logging.Logger, target: logging.Logger) -> None:
    target.setLevel(source.level)
    target.propagate = source.propagate
    for handler in source.handlers:
        target.addHandler(handler)
