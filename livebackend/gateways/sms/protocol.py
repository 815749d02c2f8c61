"""The protocol of SMS gateways."""

from typing import Protocol, runtime_checkable


class SmsFailed(Exception):
    """The message was rejected, or its outcome is unknown. Do not send it again."""


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
