"""The outside world: what a gateway promises, a harmless one, and the real ones."""

from pkgutil import resolve_name
from typing import Any

from livebackend.gateways.payments import PaymentGateway
from livebackend.gateways.sms import SmsGateway
from livebackend.gateways.streams import StreamGateway
from livebackend.settings import Settings, SettingsError


def make_gateways(settings: Settings) -> tuple[SmsGateway, StreamGateway, PaymentGateway | None]:
    """The gateways that the settings name; one for payments only where refills are ordered.

    Raises SettingsError, for all that are none.
    """
    found: list[Any] = []
    faults: list[str] = []
    wanted: list[tuple[str, type]] = [("sms", SmsGateway), ("streams", StreamGateway)]
    if settings.coins_refill == "order":
        wanted.append(("payments", PaymentGateway))
    for name, protocol in wanted:
        try:
            found.append(_gateway(name, settings, protocol))
        except SettingsError as error:
            faults.extend(error.faults)
    if faults:
        raise SettingsError(*faults)
    sms, streams, *payments = found
    return sms, streams, payments[0] if payments else None


def _gateway(name: str, settings: Settings, protocol: type) -> Any:
    dotted = getattr(settings, f"{name}_gateway")
    try:
        # With the colon, an import that fails raises its own error.
        gateway = resolve_name(":".join(dotted.rsplit(".", 1))).from_settings(settings)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{name}.gateway: {dotted} can't be used: {error}") from None
    if not isinstance(gateway, protocol):
        raise SettingsError(f"{name}.gateway: {dotted} is no {protocol.__name__}")
    return gateway
