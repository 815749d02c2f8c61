"""Deprecated names in ini files, supported for one release.

Each use logs a warning with the new name.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

# Dotted class names in settings.
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

# Modules of the classes that logging sections name.
MODULES: Mapping[str, str] = {"livebackend.logs": "livebackend.monitoring.log_formatters"}

# Loggers that the logging sections configure. `livebackend.gateways.sms` and
# `livebackend.gateways.payments` are omitted: packages of these names still exist, and log.
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


def current_class(dotted_name: str) -> str:
    """Return the current name of a class; log a warning if it was renamed."""
    current = CLASSES.get(dotted_name, dotted_name)
    if current != dotted_name:
        log.warning("%s is deprecated: use %s", dotted_name, current)
    return current


def current_module(dotted_name: str) -> str:
    """Return the current name of a renamed module; raise KeyError for other modules."""
    current = MODULES[dotted_name]
    warnings.warn(f"{dotted_name} is deprecated: use {current}", FutureWarning, stacklevel=2)
    return current


def configure_renamed_loggers() -> None:
    """Copy the configuration of each deprecated logger to the loggers that replace it."""
    for old, current in LOGGERS.items():
        configured = logging.root.manager.loggerDict.get(old)
        if isinstance(configured, logging.Logger) and _is_configured(configured):
            log.warning("logger %s is deprecated: use %s", old, ", ".join(current))
            for name in current:
                _copy_configuration(configured, logging.getLogger(name))
            # Otherwise the next call copies it again.
            configured.setLevel(logging.NOTSET)
            configured.handlers.clear()


def _is_configured(logger: logging.Logger) -> bool:
    return logger.level != logging.NOTSET or bool(logger.handlers)


def _copy_configuration(source: logging.Logger, target: logging.Logger) -> None:
    target.setLevel(source.level)
    target.propagate = source.propagate
    for handler in source.handlers:
        target.addHandler(handler)
