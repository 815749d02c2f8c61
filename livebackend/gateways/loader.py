"""Loading of gateways by the dotted names of their classes."""

from collections import Counter
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any, NamedTuple

from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings
from livebackend.gateways.payments.protocol import PaymentGateway
from livebackend.gateways.sms.protocol import SmsGateway
from livebackend.gateways.streams import StreamGateway


class Gateways(NamedTuple):
    """The outside services of an application."""

    sms: SmsGateway
    streams: StreamGateway
    payments: list[PaymentGateway]


def load_gateways(
    settings: Settings, *, sms: str, streams: str, payments: Sequence[str]
) -> Gateways:
    """Return the gateways with these dotted names, each made from the settings.

    Raises SettingsError, which names every gateway that can't be used.
    """
    found: list[Any] = []
    faults: list[str] = []
    named: list[tuple[str, str, type]] = [
        ("sms", sms, SmsGateway),
        ("streams", streams, StreamGateway),
        *(("payments", dotted, PaymentGateway) for dotted in payments),
    ]
    for name, dotted, protocol in named:
        try:
            found.append(_gateway(name, dotted, settings, protocol))
        except SettingsError as error:
            faults.extend(error.faults)
    if faults:
        raise SettingsError(*faults)
    gateways = Gateways(found[0], found[1], found[2:])
    providers = Counter(gateway.provider for gateway in gateways.payments)
    twice = [name for name, count in providers.items() if count > 1]
    if twice:
        raise SettingsError(f"payments.gateway: names two gateways of {', '.join(twice)}")
    return gateways


def _gateway(name: str, dotted: str, settings: Settings, protocol: type) -> Any:
    try:
        # With the colon, an import that fails raises its own error.
        gateway = resolve_name(":".join(dotted.rsplit(".", 1))).from_settings(settings)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{name}.gateway: {dotted} can't be used: {error}") from None
    if not isinstance(gateway, protocol):
        raise SettingsError(f"{name}.gateway: {dotted} is no {protocol.__name__}")
    return gateway
