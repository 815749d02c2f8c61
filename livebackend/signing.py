"""What we hand out and take back: signed, so that nobody else can make or change it."""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

_LENGTH_MAX = 1024


def derived_key(secret: str, purpose: str) -> bytes:
    """A key for one purpose; it tells nothing about another purpose's, or the secret."""
    return hmac.digest(secret.encode(), purpose.encode(), "sha256")


class Signer:
    """Signs values of one kind. The newest of `secrets` stands first and signs; all verify.

    What was signed for another `kind` is not taken.
    """

    def __init__(self, secrets: Sequence[str], *, kind: str) -> None:
        self._serializer = URLSafeSerializer(
            list(reversed(secrets)),  # itsdangerous signs with the last
            salt=f"livebackend.{kind}",
            signer_kwargs={"digest_method": sha256},
        )

    def sign(self, value: Any) -> str:
        signed: str | bytes = self._serializer.dumps(value)
        return signed if isinstance(signed, str) else signed.decode()

    def read(self, text: object) -> Any:
        """The value that was signed, or None for what we did not sign."""
        # A long text costs time to read, and none of ours is.
        if not isinstance(text, str) or len(text) > _LENGTH_MAX:
            return None
        try:
            return self._serializer.loads(text)
        except BadData:
            return None
