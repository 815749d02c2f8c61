"""Development SMS gateway, which logs codes instead of sending them."""

import logging
from collections import deque
from typing import NamedTuple, Self

from livebackend.config.settings import Settings
from livebackend.core.masking import mask_phone

log = logging.getLogger(__name__)


class Message(NamedTuple):
    """An SMS with a verification code, which was logged instead of sent."""

    phone: str
    code: str


class DevelopmentSms:
    """SMS gateway that logs each code and stores the last 1000 messages in `sent`."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls()

    def __init__(self) -> None:
        self.sent: deque[Message] = deque(maxlen=1000)

    def send(self, phone: str, code: str) -> None:
        self.sent.append(Message(phone, code))
        log.info("development SMS gateway: verification code for %s: %s", mask_phone(phone), code)
