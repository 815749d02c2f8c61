"""Loads gateways by the dotted names of their classes."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any, NamedTuple, NoReturn

from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings
from livebackend.gateways.payments.protocol import PaymentGateway
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway
from livebackend.gateways.streams import StreamFailed, StreamGateway

log = logging.getLogger(__name__)


class Gateways(NamedTuple):
    """The gateways of an application."""

    sms: SmsGateway
    streams: StreamGateway
    payments: list[PaymentGateway]


def load_gateways(
    settings: Settings, *, sms: str, streams: str, payments: Sequence[str]
) -> Gateways:
    """Create the gateways of the classes with these dotted names.

    Raises SettingsError, which names every gateway that cannot be loaded.
    """
    loaded_gateways: list[Any] = []
    errors: list[str] = []
    requested_gateways: list[tuple[str, str, type]] = [
        ("sms", sms, SmsGateway),
        ("streams", streams, StreamGateway),
        *(("payments", class_name, PaymentGateway) for class_name in payments),
    ]
    for name, class_name, protocol in requested_gateways:
        try:
            loaded_gateways.append(_load(name, class_name, settings, protocol))
        except SettingsError as error:
            errors.extend(error.errors)
    if errors:
        raise SettingsError(*errors)
    gateways = Gateways(loaded_gateways[0], loaded_gateways[1], loaded_gateways[2:])
    provider_counts = Counter(gateway.provider for gateway in gateways.payments)
    duplicate_providers = [name for name, count in provider_counts.items() if count > 1]
    if duplicate_providers:
        raise SettingsError(
            "payments.gateway: names more than one gateway of the provider"
            f" {', '.join(duplicate_providers)}"
        )
    return gateways


def load_usable_gateways(settings: Settings, *, sms: str, streams: str) -> Gateways:
    """Create the gateways that can be loaded; the calls of others fail. No payment gateways.

    For commands that must work although a gateway does not, such as disabling a user.
    """
    return Gateways(
        _load_or_replace("sms", sms, settings, SmsGateway, SmsFailed),
        _load_or_replace("streams", streams, settings, StreamGateway, StreamFailed),
        [],
    )


class UnusableGateway:
    """Replaces a gateway that cannot be loaded; each call raises the error of its protocol."""

    def __init__(self, error_class: Callable[[str], Exception], reason: str) -> None:
        self._error_class = error_class
        self._reason = reason

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def fail(*args: Any, **options: Any) -> NoReturn:
            raise self._error_class(self._reason)

        return fail


def _load_or_replace(
    name: str,
    class_name: str,
    settings: Settings,
    protocol: type,
    error_class: Callable[[str], Exception],
) -> Any:
    try:
        return _load(name, class_name, settings, protocol)
    except SettingsError as error:
        reason = "; ".join(error.errors)
        log.warning("the gateway is not available: %s", reason)
        return UnusableGateway(error_class, reason)


def _load(name: str, class_name: str, settings: Settings, protocol: type) -> Any:
    try:
        # The colon is needed: for `module.class`, resolve_name hides an ImportError inside the
        # module.
        gateway = resolve_name(":".join(class_name.rsplit(".", 1))).from_settings(settings)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{name}.gateway: {class_name} cannot be loaded: {error}") from None
    if not isinstance(gateway, protocol):
        raise SettingsError(f"{name}.gateway: {class_name} does not implement {protocol.__name__}")
    return gateway
