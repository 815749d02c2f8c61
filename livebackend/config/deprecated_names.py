"""Deprecated names in ini files, supported for one release.

Each use logs a warning with the new name.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence

log = logging.getLogger(__name__)

RENAMED_SETTINGS: Mapping[str, str] = {
    "codes.plain_is_meant": "codes.allow_plain",
    "coins.direct_refill_is_meant": "coins.allow_free_refill",
    "gateways.embedded_is_meant": "gateways.allow_development",
    "http.body_bytes_max": "http.max_body_bytes",
    "http.fields_max": "http.max_fields",
    "http.query_parameters": "http.allow_query_parameters",
    "http.upload_bytes_max": "http.max_upload_bytes",
    "http.url": "http.public_url",
    "limits.add": "limits.friend_requests",
    "limits.codes_address": "limits.sms_address",
    "limits.codes_all": "limits.sms_total",
    "limits.codes_phone": "limits.sms_phone",
    "limits.connections": "database.rate_limit_connections",
    "metrics.listen": "metrics.address",
    "passwords.at_once": "passwords.max_concurrent",
    "passwords.common_refused": "passwords.reject_common",
    "passwords.wait_s": "passwords.queue_timeout_s",
    "pictures.bytes_max": "pictures.max_bytes",
    "pictures.free_bytes_min": "pictures.min_free_disk_bytes",
    "pictures.keep": "pictures.mode",
    "pictures.only_ours": "pictures.require_uploaded",
    "pictures.unclaimed_s": "pictures.unused_ttl_s",
    "secrets.known_is_meant": "secrets.allow_insecure",
    "server.connections": "server.max_connections",
    "server.header_bytes_max": "server.max_header_bytes",
    "server.header_wait_s": "server.header_timeout_s",
    "server.stop_wait_s": "server.shutdown_timeout_s",
    "sms.url": "sms.api_url",
    "streams.absent_s": "streams.offline_timeout_s",
    "streams.sweep_s": "streams.check_interval_s",
    "streams.url": "streams.api_url",
    "var.dir": "data.dir",
}

# Deprecated values of the setting `pictures.mode`, with the current values.
RENAMED_PICTURE_MODES: Mapping[str, str] = {"as_sent": "original", "re_encoded": "reencoded"}

# Deprecated class names in settings, with the current names.
RENAMED_CLASSES: Mapping[str, str] = {
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

# Deprecated modules of the formatter classes in logging sections, with the current modules.
RENAMED_MODULES: Mapping[str, str] = {"livebackend.logs": "livebackend.monitoring.log_formatters"}

# Deprecated loggers, with the loggers that replace them. `livebackend.gateways.sms` and
# `livebackend.gateways.payments` are not deprecated: they are the parents of loggers in use.
RENAMED_LOGGERS: Mapping[str, Sequence[str]] = {
    "livebackend.calls": ["livebackend.access"],
    "livebackend.gateways.calls": ["livebackend.gateways.http_client"],
    "livebackend.gateways.qiniu_sms": ["livebackend.gateways.sms.qiniu"],
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


def warn_of_deprecated_settings(names: Iterable[str]) -> None:
    """Log a warning with the new name of each deprecated setting."""
    for name in sorted(RENAMED_SETTINGS.keys() & set(names)):
        log.warning("setting %s is deprecated: use %s", name, RENAMED_SETTINGS[name])


def current_picture_mode(value: str) -> str:
    """Return the current name of a picture mode; log a warning if it was renamed."""
    current_mode = RENAMED_PICTURE_MODES.get(value, value)
    if current_mode != value:
        log.warning("pictures.mode = %s is deprecated: use %s", value, current_mode)
    return current_mode


def current_class(dotted_name: str) -> str:
    """Return the current name of a class; log a warning if it was renamed."""
    current_name = RENAMED_CLASSES.get(dotted_name, dotted_name)
    if current_name != dotted_name:
        log.warning("class %s is deprecated: use %s", dotted_name, current_name)
    return current_name


def current_module(dotted_name: str) -> str:
    """Return the current name of a deprecated module, and issue a FutureWarning.

    Raises KeyError for other modules.
    """
    current_name = RENAMED_MODULES[dotted_name]
    warnings.warn(
        f"module {dotted_name} is deprecated: use {current_name}", FutureWarning, stacklevel=2
    )
    return current_name


def configure_renamed_loggers() -> None:
    """Copy the configuration of each deprecated logger to the loggers that replace it."""
    for old_name, current_names in RENAMED_LOGGERS.items():
        old_logger = logging.root.manager.loggerDict.get(old_name)
        if isinstance(old_logger, logging.Logger) and _is_configured(old_logger):
            log.warning("logger %s is deprecated: use %s", old_name, ", ".join(current_names))
            for name in current_names:
                _copy_configuration(old_logger, logging.getLogger(name))
            # Without the reset, the next call of this function would copy the configuration again.
            old_logger.setLevel(logging.NOTSET)
            old_logger.handlers.clear()


def _is_configured(logger: logging.Logger) -> bool:
    return logger.level != logging.NOTSET or bool(logger.handlers)


def _copy_configuration(old_logger: logging.Logger, new_logger: logging.Logger) -> None:
    new_logger.setLevel(old_logger.level)
    new_logger.propagate = old_logger.propagate
    for handler in old_logger.handlers:
        new_logger.addHandler(handler)
