"""The SMS gateway of development: it sends nothing, and logs the code."""

import logging
from collections import deque
from typing import NamedTuple, Self

from livebackend.config.settings import Settings
from livebackend.core.masking import masked

log = logging.getLogger(__name__)


class Message(NamedTuple):
    phone: str
    code: str


class DevelopmentSms:
    """Sends nothing: the log shows the code, and `sent` keeps the newest messages."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls()

    def __init__(self) -> None:
        self.sent: deque[Message] = deque(maxlen=1000)

    def send(self, phone: str, code: str) -> None:
        self.sent.append(Message(phone, code))
        log.info("code for %s: %s", masked(phone), code)
