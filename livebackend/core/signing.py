"""What we hand out and take back: signed, so that nobody else can make or change it."""

import hmac
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import itsdangerous
import orjson
from itsdangerous.encoding import base64_decode, base64_encode

_LENGTH_MAX = 1024


def derived_key(secret: str, purpose: str) -> bytes:
    """A key for one purpose; it tells nothing about another purpose's, or the secret."""
    return hmac.digest(secret.encode(), purpose.encode(), "sha256")


class Signer:
    """Signs values of one kind. The newest of `secrets` stands first and signs; all verify.

    What was signed for another `kind` is not taken.
    """

    def __init__(self, secrets: Sequence[str], *, kind: str) -> None:
        # Not itsdangerous's serializer, which makes a signer for every token; and the keys are
        # derived now, or a signer does that for every token, too.
        keys = [
            itsdangerous.Signer(secret, salt=f"livebackend.{kind}", digest_method=sha256)
            for secret in reversed(secrets)  # itsdangerous signs with the last
        ]
        self._signer = itsdangerous.Signer(
            [key.derive_key() for key in keys], key_derivation="none", digest_method=sha256
        )

    def sign(self, value: Any) -> str:
        return self._signer.sign(base64_encode(json.dumps(value, separators=(",", ":")))).decode()

    def read(self, text: object) -> Any:
        """The value that was signed, or None for what we did not sign."""
        # A long text costs time to read, and none of ours is.
        if not isinstance(text, str) or len(text) > _LENGTH_MAX:
            return None
        try:
            return orjson.loads(base64_decode(self._signer.unsign(text)))
        except (itsdangerous.BadData, orjson.JSONDecodeError):
            return None
