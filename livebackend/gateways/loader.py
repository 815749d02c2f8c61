"""The outside world: what a gateway promises, a harmless one, and the real ones."""

from collections import Counter
from pkgutil import resolve_name
from typing import Any, NamedTuple

from livebackend.config.settings import Settings, SettingsError
from livebackend.gateways.payments.protocol import PaymentGateway
from livebackend.gateways.sms.protocol import SmsGateway
from livebackend.gateways.streams import StreamGateway


class Gateways(NamedTuple):
    """The outside services of an application."""

    sms: SmsGateway
    streams: StreamGateway
    payments: list[PaymentGateway]


def make_gateways(settings: Settings) -> Gateways:
    """Return the gateways of the settings: SMS, streams, and all for payments.

    Raises SettingsError, which names every gateway that can't be used.
    """
    found: list[Any] = []
    faults: list[str] = []
    named: list[tuple[str, str, type]] = [
        ("sms", settings.sms_gateway, SmsGateway),
        ("streams", settings.streams_gateway, StreamGateway),
        *(("payments", dotted, PaymentGateway) for dotted in settings.payments_gateway.split()),
    ]
    for name, dotted, protocol in named:
        try:
            found.append(_gateway(name, dotted, settings, protocol))
        except SettingsError as error:
            faults.extend(error.faults)
    if faults:
        raise SettingsError(*faults)
    sms, streams, *payments = found
    providers = Counter(gateway.provider for gateway in payments)
    twice = [name for name, count in providers.items() if count > 1]
    if twice:
        raise SettingsError(f"payments.gateway: names two gateways of {', '.join(twice)}")
    return Gateways(sms, streams, payments)


def _gateway(name: str, dotted: str, settings: Settings, protocol: type) -> Any:
    try:
        # With the colon, an import that fails raises its own error.
        gateway = resolve_name(":".join(dotted.rsplit(".", 1))).from_settings(settings)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{name}.gateway: {dotted} can't be used: {error}") from None
    if not isinstance(gateway, protocol):
        raise SettingsError(f"{name}.gateway: {dotted} is no {protocol.__name__}")
    return gateway
