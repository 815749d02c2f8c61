"""Signatures and encryption of WeChat Pay API v3. Only this module imports `wechatpayv3`.

Source: WeChat Pay API v3, "签名生成", "签名验证", "证书和回调报文解密".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

try:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from wechatpayv3 import utils
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the package `wechatpayv3` is missing or incomplete:"
        " run `pip install 'livebackend[wechat]'`",
        name=error.name,
    ) from error

_API_KEY_BYTES = 32
_ENCRYPTION_ALGORITHM = "AEAD_AES_256_GCM"


@dataclass(frozen=True)
class MerchantKey:
    """The merchant's private key and the serial number of its certificate."""

    merchant: str
    serial: str
    private_key: RSAPrivateKey

    @classmethod
    def from_pem(cls, pem: str, *, merchant: str, serial: str) -> Self:
        """Load a PKCS#8 RSA key in PEM. Raises ValueError for any other text."""
        key = _load_key(utils.load_private_key, pem)
        if not isinstance(key, RSAPrivateKey):
            raise _not_rsa_error(key)
        return cls(merchant, serial, key)

    def authorization(self, method: str, path: str, body: str) -> str:
        """Return the `Authorization` header of a request."""
        header: str = utils.build_authorization(
            path, method, self.merchant, self.serial, self.private_key, data=body
        )
        return header

    def sign(self, *lines: str) -> str:
        """Return the base64 signature of the lines, each ended with a newline."""
        signature: str = utils.rsa_sign(self.private_key, "".join(f"{line}\n" for line in lines))
        return signature


@dataclass(frozen=True)
class PlatformKey:
    """A public key of WeChat Pay."""

    public_key: RSAPublicKey

    @classmethod
    def from_pem(cls, pem: str) -> Self:
        """Load an RSA public key in PEM. Raises ValueError for any other text."""
        key = _load_key(utils.load_public_key, pem)
        if not isinstance(key, RSAPublicKey):
            raise _not_rsa_error(key)
        return cls(key)

    def has_signed(self, *, timestamp: str, nonce: str, body: str, signature: str) -> bool:
        """Return whether this key signed the response or notification."""
        return bool(utils.rsa_verify(timestamp, nonce, body, signature, self.public_key))


@dataclass(frozen=True)
class PlatformCertificate:
    """A platform certificate of WeChat Pay. Its times are timezone-aware."""

    serial: int
    key: PlatformKey
    valid_from: datetime
    valid_until: datetime

    @classmethod
    def from_pem(cls, pem: str) -> Self:
        """Load an RSA certificate in PEM. Raises ValueError for any other text."""
        certificate = utils.load_certificate(pem)
        if certificate is None:
            raise ValueError("the text is not a PEM certificate")
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey):
            raise _not_rsa_error(key)
        return cls(
            certificate.serial_number,
            PlatformKey(key),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    def is_valid_at(self, moment: datetime) -> bool:
        return self.valid_from <= moment <= self.valid_until


@dataclass(frozen=True, repr=False)
class ApiKey:
    """The merchant's APIv3 key, which encrypts notifications and certificates."""

    key: str

    def __post_init__(self) -> None:
        """Raise ValueError unless the key has 32 bytes."""
        if len(self.key.encode()) != _API_KEY_BYTES:
            raise ValueError(f"wechat.api_key must have {_API_KEY_BYTES} bytes")

    def decrypt(self, encrypted: Mapping[str, Any]) -> str:
        """Return the text of an encrypted JSON object of WeChat Pay. Raises ValueError."""
        if encrypted.get("algorithm") != _ENCRYPTION_ALGORITHM:
            raise ValueError(
                f"WeChat Pay's JSON object is not encrypted with {_ENCRYPTION_ALGORITHM}"
            )
        try:
            text: str | None = utils.aes_decrypt(
                nonce=encrypted["nonce"],
                ciphertext=encrypted["ciphertext"],
                associated_data=encrypted.get("associated_data") or "",
                apiv3_key=self.key,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"malformed encrypted object: {error!r}") from error
        if text is None:
            raise ValueError(
                "wechat.api_key cannot decrypt WeChat Pay's JSON object: compare the setting with"
                " the merchant's APIv3 key"
            )
        return text


def _load_key(load: Callable[[str], object], pem: str) -> object:
    try:
        return load(pem)
    except Exception as error:  # wechatpayv3 raises bare Exception
        raise ValueError(str(error)) from error


def _not_rsa_error(key: object) -> ValueError:
    return ValueError(f"{type(key).__name__} is not an RSA key")
