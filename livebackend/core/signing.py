"""Signed values that clients store and send back, such as login tokens."""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import itsdangerous
import orjson
from itsdangerous.encoding import base64_encode

from livebackend.core.hmac_sha256 import HmacSha256

_MAX_SIGNED_CHARACTERS = 1024


def derived_key(secret: str, purpose: str) -> bytes:
    """Derive a key for one purpose; the key reveals neither the secret nor other keys."""
    return hmac.digest(secret.encode(), purpose.encode(), "sha256")


class Signer:
    """Signs and verifies JSON values of one kind.

    The first of `secrets` signs; all secrets verify. A value that was signed for another `kind` is
    invalid. Only the text that `sign` returned is valid, no other text that decodes to the same
    value and signature.
    """

    def __init__(self, secrets: Sequence[str], *, kind: str) -> None:
        # The keys are derived once here. The Serializer of itsdangerous would derive them again for
        # each token.
        keys = [
            itsdangerous.Signer(
                secret, salt=f"livebackend.{kind}", digest_method=sha256
            ).derive_key()
            for secret in secrets
        ]
        self._signer = itsdangerous.Signer(keys[0], key_derivation="none", digest_method=sha256)
        self._hmacs = [HmacSha256(key) for key in keys]

    def sign(self, value: Any) -> str:
        return self._signer.sign(base64_encode(json.dumps(value, separators=(",", ":")))).decode()

    def read(self, text: object) -> Any:
        """Verify the signature; return the signed value, or None for a wrong signature."""
        # Long texts are rejected before the slow verification, because signed values are short.
        if not isinstance(text, str) or len(text) > _MAX_SIGNED_CHARACTERS or not text.isascii():
            return None
        payload, _, signature = text.rpartition(".")
        # The texts of the signatures are compared. itsdangerous compares the decoded signatures,
        # and its decoder ignores padding, unused bits and characters outside the alphabet.
        for keyed_hmac in self._hmacs:
            if hmac.compare_digest(_signature(keyed_hmac, payload), signature):
                return orjson.loads(urlsafe_b64decode(payload + "=="))
        return None


def _signature(keyed_hmac: HmacSha256, payload: str) -> str:
    return urlsafe_b64encode(keyed_hmac.digest(payload.encode())).rstrip(b"=").decode()
