"""The protocol of SMS gateways."""

from typing import Protocol, runtime_checkable


class SmsFailed(Exception):
    """The message was refused, or nobody knows whether it went out; it must not be sent again."""


@runtime_checkable
class SmsGateway(Protocol):
    def send(self, phone: str, code: str) -> None:
        """Sends a code within 4 s, or raises SmsFailed."""


@runtime_checkable
class CheckableSms(SmsGateway, Protocol):
    """An SMS gateway that can be checked without sending a message."""

    def check(self) -> None:
        """Check keys and template within 4 s. Raises SmsFailed, which says what is wrong."""
