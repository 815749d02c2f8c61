"""Client of WeChat Pay API v3, with signature verification."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from requests import PreparedRequest
from requests.auth import AuthBase

from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.http_client import ProviderCallFailed, ProviderClient, ProviderResponse
from livebackend.gateways.payments.protocol import InvalidSignature, PaymentFailed
from livebackend.gateways.payments.wechat.certificates import (
    CertificateLookupFailed,
    PlatformCertificates,
)
from livebackend.gateways.payments.wechat.crypto import (
    ApiKey,
    MerchantKey,
    PlatformCertificate,
    PlatformKey,
)

API_URL = "https://api.mch.weixin.qq.com"
MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024

REQUEST_TIMEOUT_S = 3.0
_SIGNATURE_ALGORITHM = "WECHATPAY2-SHA256-RSA2048"
_MAX_MESSAGE_CHARACTERS = 200


@dataclass(frozen=True)
class NamedKey:
    """WeChat Pay's public key and its id."""

    key_id: str
    key: PlatformKey


@dataclass(frozen=True)
class Response:
    """An API response: the HTTP status and the JSON object of the body."""

    status: int
    fields: Mapping[str, Any]

    @property
    def code(self) -> str:
        """WeChat Pay's error code, or an empty string."""
        return str(self.fields.get("code") or "")

    def failure(self) -> PaymentFailed:
        reason = f", {self.code}: {self.fields.get('message')}" if self.code else ""
        return payment_failure(f"HTTP status {self.status}{reason}")


@dataclass(frozen=True)
class Notification:
    """A verified and decrypted notification."""

    event_type: str
    resource: Mapping[str, Any]


def payment_failure(message: str) -> PaymentFailed:
    """Return a PaymentFailed whose message is cut to 200 characters."""
    return PaymentFailed(f"WeChat Pay: {message}"[:_MAX_MESSAGE_CHARACTERS])


class WechatClient:
    """Client of WeChat Pay's API for one merchant. Safe for concurrent use.

    Verifies signatures with the public key if the response names this key, otherwise with the
    platform certificates. The client of `wechatpayv3` is not used: it discards its certificates
    before downloading new ones, follows redirects, and reads bodies of any size.

    Source: WeChat Pay API v3, "签名生成", "签名验证", "下载平台证书", "微信支付公钥".
    """

    def __init__(
        self,
        key: MerchantKey,
        api_key: ApiKey,
        public_key: NamedKey | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = key
        self._api_key = api_key
        self._public_key = public_key
        auth = _RequestSigner(key)
        self._api = ProviderClient(API_URL, auth=auth)
        # Certificate look-ups have a separate circuit breaker. Any client can cause failed
        # look-ups, and these must not stop payments.
        self._certificate_api = ProviderClient(API_URL, auth=auth)
        self._download_api = ProviderClient(
            API_URL, auth=auth, max_response_bytes=MAX_DOWNLOAD_BYTES
        )
        self._certificates = PlatformCertificates(
            self._download_certificates, clock=clock, monotonic=monotonic
        )

    def load_certificates(self) -> None:
        """Download WeChat Pay's certificates; do nothing if its public key is set.

        Raises ValueError if the download fails or the certificates are invalid.
        """
        if self._public_key is None:
            try:
                self._certificates.load()
            except CertificateLookupFailed as error:
                raise ValueError(f"WeChat Pay's certificates cannot be loaded: {error}") from error

    def sign(self, *lines: str) -> str:
        """Return the merchant's base64 signature of the lines."""
        return self._key.sign(*lines)

    def call(
        self,
        method: str,
        path: str,
        fields: Mapping[str, Any] | None = None,
        *,
        deadline: Deadline | None = None,
    ) -> Response:
        """Send a request; return the response, of any HTTP status.

        Takes at most 3 s unless `deadline` is given. Verifies the signatures of successful
        responses only, because WeChat Pay leaves some error responses unsigned. Raises
        PaymentFailed.
        """
        deadline = deadline or Deadline(REQUEST_TIMEOUT_S)
        body = json.dumps(fields).encode() if fields is not None else None
        http_response = self._send(self._api, method, path, body, deadline)
        if 200 <= http_response.status < 300:
            try:
                self._verify(http_response.headers, http_response.content, deadline)
            except InvalidSignature as error:
                raise payment_failure(f"the response cannot be verified: {error}") from error
        return Response(http_response.status, _fields(http_response))

    def download(self, path: str, *, deadline: Deadline) -> bytes:
        """Download a file of at most 64 MiB. Raises PaymentFailed.

        WeChat Pay does not sign these responses: the caller must check the digest.
        """
        http_response = self._send(self._download_api, "GET", path, None, deadline)
        if http_response.status != 200:
            raise Response(http_response.status, _fields(http_response)).failure()
        return http_response.content

    def notification(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """Verify and decrypt a notification. The names of `headers` are in lower case.

        Raises InvalidSignature. The caller must check the time of the notification.
        """
        self._verify(headers, body)
        try:
            envelope = json.loads(body)
            resource = json.loads(self._api_key.decrypt(envelope["resource"]))
            event_type = str(envelope["event_type"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidSignature("malformed body") from error
        if not isinstance(resource, dict):
            raise InvalidSignature("malformed body")
        return Notification(event_type, resource)

    def _send(
        self, api: ProviderClient, method: str, path: str, body: bytes | None, deadline: Deadline
    ) -> ProviderResponse:
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "livebackend",
        }
        if self._public_key:
            # Asks WeChat Pay to sign the response with this key.
            headers["Wechatpay-Serial"] = self._public_key.key_id
        try:
            return api.call(method, path, body=body, headers=headers, deadline=deadline)
        except ProviderCallFailed as error:
            # The error is left out of message and traceback: it can contain the URL with its token.
            raise payment_failure(error.kind) from None

    def _verify(
        self, headers: Mapping[str, str], body: bytes, deadline: Deadline | None = None
    ) -> None:
        """Verify the signature. Raises InvalidSignature."""
        if headers.get("wechatpay-signature-type") != _SIGNATURE_ALGORITHM:
            raise InvalidSignature(f"the signature algorithm is not {_SIGNATURE_ALGORITHM}")
        signature = headers.get("wechatpay-signature", "")
        if not signature:
            raise InvalidSignature("the header Wechatpay-Signature is missing")
        key = self._platform_key(headers.get("wechatpay-serial", ""), deadline)
        if key is None:
            raise InvalidSignature("no certificate has the serial number in Wechatpay-Serial")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise InvalidSignature("malformed body") from error
        if not key.has_signed(
            timestamp=headers.get("wechatpay-timestamp", ""),
            nonce=headers.get("wechatpay-nonce", ""),
            body=text,
            signature=signature,
        ):
            raise InvalidSignature("invalid signature")

    def _platform_key(self, serial: str, deadline: Deadline | None) -> PlatformKey | None:
        if self._public_key and serial == self._public_key.key_id:
            return self._public_key.key
        # WeChat Pay still signs with certificates while a merchant switches to the public key.
        if not re.fullmatch("[0-9A-Fa-f]{1,64}", serial):
            return None
        certificate = self._certificates.find(int(serial, 16), deadline)
        return certificate.key if certificate else None

    def _download_certificates(self, deadline: Deadline) -> list[PlatformCertificate]:
        """Download the list of certificates. Raises CertificateLookupFailed.

        The response needs no signature: AES-GCM with the APIv3 key authenticates each certificate.
        """
        try:
            http_response = self._send(
                self._certificate_api, "GET", "/v3/certificates", None, deadline
            )
            response = Response(http_response.status, _fields(http_response))
            if response.status != 200:
                raise response.failure()
            encrypted_certificates = [
                entry["encrypt_certificate"] for entry in response.fields["data"]
            ]
            return [
                PlatformCertificate.from_pem(self._api_key.decrypt(encrypted_certificate))
                for encrypted_certificate in encrypted_certificates
            ]
        except PaymentFailed as error:
            raise CertificateLookupFailed(str(error)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CertificateLookupFailed(f"malformed certificates: {error!r}"[:200]) from error


class _RequestSigner(AuthBase):
    """Signs requests with the merchant's key."""

    def __init__(self, key: MerchantKey) -> None:
        self._key = key

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        body = request.body or b""
        request.headers["Authorization"] = self._key.authorization(
            str(request.method),
            request.path_url,
            body.decode() if isinstance(body, bytes) else body,
        )
        return request


def _fields(http_response: ProviderResponse) -> Mapping[str, Any]:
    """Return the JSON object of a body; empty for an empty body or an error page.

    Raises PaymentFailed if a successful response has a body that is not a JSON object.
    """
    try:
        fields = json.loads(http_response.content) if http_response.content else {}
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict):
        return fields
    if 200 <= http_response.status < 300:
        raise payment_failure(
            f"HTTP status {http_response.status}, and the body is not a JSON object"
        )
    return {}
