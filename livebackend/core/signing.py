"""Signed values that clients store and send back, such as login tokens."""

import hmac
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import itsdangerous
import orjson
from itsdangerous.encoding import base64_decode, base64_encode

_MAX_SIGNED_CHARACTERS = 1024


def derived_key(secret: str, purpose: str) -> bytes:
    """Derive a key for one purpose; the key reveals neither the secret nor other keys."""
    return hmac.digest(secret.encode(), purpose.encode(), "sha256")


class Signer:
    """Signs and verifies JSON values of one kind.

    The first of `secrets` signs; all secrets verify. A value that was signed for another `kind` is
    invalid.
    """

    def __init__(self, secrets: Sequence[str], *, kind: str) -> None:
        # The keys are derived once here. The Serializer of itsdangerous would derive them again for
        # each token.
        signers = [
            itsdangerous.Signer(secret, salt=f"livebackend.{kind}", digest_method=sha256)
            for secret in reversed(secrets)  # itsdangerous signs with the last key
        ]
        self._signer = itsdangerous.Signer(
            [signer.derive_key() for signer in signers], key_derivation="none", digest_method=sha256
        )

    def sign(self, value: Any) -> str:
        return self._signer.sign(base64_encode(json.dumps(value, separators=(",", ":")))).decode()

    def read(self, text: object) -> Any:
        """Verify the signature; return the signed value, or None for a wrong signature."""
        # Long texts are rejected before the slow verification, because signed values are short.
        if not isinstance(text, str) or len(text) > _MAX_SIGNED_CHARACTERS:
            return None
        try:
            return orjson.loads(base64_decode(self._signer.unsign(text)))
        except (itsdangerous.BadData, orjson.JSONDecodeError):
            return None
