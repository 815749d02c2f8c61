"""The protocol of SMS gateways."""

from typing import Protocol, runtime_checkable


class SmsFailed(Exception):
    """The SMS was not sent, or the outcome is unknown. The caller must not retry."""


@runtime_checkable
class SmsGateway(Protocol):
    """Sends verification codes by SMS."""

    def send(self, phone: str, code: str) -> None:
        """Send a code within 4 s. Raises SmsFailed."""


@runtime_checkable
class CheckableSms(SmsGateway, Protocol):
    """An SMS gateway with a check that sends no message."""

    def check(self) -> None:
        """Check the access keys and the template within 4 s. Raises SmsFailed with the reason."""
