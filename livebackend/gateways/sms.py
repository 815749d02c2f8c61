"""Text messages: what a gateway promises, and one that only writes them down."""

import logging
from collections import deque
from typing import NamedTuple, Protocol, Self, runtime_checkable

from livebackend.settings import Settings

log = logging.getLogger(__name__)


class SmsFailed(Exception):
    """The message was refused, or nobody knows whether it went out; it must not be sent again."""


@runtime_checkable
class SmsGateway(Protocol):
    def send(self, phone: str, code: str) -> None:
        """Sends a code within 4 s, or raises SmsFailed."""


class Message(NamedTuple):
    phone: str
    code: str


class EmbeddedSms:
    """Sends nothing: the log shows the code, and `sent` keeps the newest messages."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls()

    def __init__(self) -> None:
        self.sent: deque[Message] = deque(maxlen=1000)

    def send(self, phone: str, code: str) -> None:
        self.sent.append(Message(phone, code))
        log.info("code for %s: %s", masked(phone), code)


def masked(phone: str) -> str:
    """A phone number as a log may show it."""
    return f"{phone[:3]}****{phone[-4:]}"
