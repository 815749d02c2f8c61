"""Loads gateways by the dotted names of their classes."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any, NamedTuple, NoReturn

from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings
from livebackend.gateways.events.protocol import ChildProcessEngine, EventEngine, EventsFailed
from livebackend.gateways.payments.protocol import PaymentGateway
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway
from livebackend.gateways.streams import StreamFailed, StreamGateway

log = logging.getLogger(__name__)


class Gateways(NamedTuple):
    """The gateways of an application."""

    sms: SmsGateway
    streams: StreamGateway
    payments: list[PaymentGateway]
    # None if live events are disabled.
    events: EventEngine | None = None

    @property
    def child_process_engine(self) -> ChildProcessEngine | None:
        """The event engine if its server is a child process of livebackend."""
        # Before Python 3.12, an UnusableGateway is an instance of every protocol.
        is_usable = not isinstance(self.events, UnusableGateway)
        return self.events if is_usable and isinstance(self.events, ChildProcessEngine) else None


def load_gateways(
    settings: Settings, *, sms: str, streams: str, payments: Sequence[str], events: str
) -> Gateways:
    """Create the gateways of the classes with these dotted names; `events` can be empty.

    If `events` is empty, there is no event engine. Raises SettingsError, which names every gateway
    that cannot be loaded.
    """
    loaded_gateways: dict[str, list[Any]] = defaultdict(list)
    errors: list[str] = []
    requested_gateways: list[tuple[str, str, type]] = [
        ("sms", sms, SmsGateway),
        ("streams", streams, StreamGateway),
        *(("payments", class_name, PaymentGateway) for class_name in payments),
        *([("events", events, EventEngine)] if events else ()),
    ]
    for name, class_name, protocol in requested_gateways:
        try:
            loaded_gateways[name].append(_load(name, class_name, settings, protocol))
        except SettingsError as error:
            errors.extend(error.errors)
    if errors:
        raise SettingsError(*errors)
    gateways = Gateways(
        sms=loaded_gateways["sms"][0],
        streams=loaded_gateways["streams"][0],
        payments=loaded_gateways["payments"],
        events=next(iter(loaded_gateways["events"]), None),
    )
    provider_counts = Counter(gateway.provider for gateway in gateways.payments)
    duplicate_providers = [name for name, count in provider_counts.items() if count > 1]
    if duplicate_providers:
        raise SettingsError(
            "payments.gateway: names more than one gateway of the provider"
            f" {', '.join(duplicate_providers)}"
        )
    return gateways


def load_usable_gateways(settings: Settings, *, sms: str, streams: str, events: str) -> Gateways:
    """Create the gateways that can be loaded; the calls of others fail. No payment gateways.

    For commands that must work although a gateway does not, such as disabling a user.
    """
    return Gateways(
        _load_or_replace("sms", sms, settings, SmsGateway, SmsFailed),
        _load_or_replace("streams", streams, settings, StreamGateway, StreamFailed),
        [],
        _load_or_replace("events", events, settings, EventEngine, EventsFailed) if events else None,
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
