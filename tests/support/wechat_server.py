"""Fake WeChat Pay server on loopback, with generated keys and valid signatures."""

import base64
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from livebackend.gateways.payments.protocol import Order
from livebackend.gateways.payments.wechat.client import API_URL
from livebackend.gateways.payments.wechat.gateway import WechatPayments

API_KEY = "an-api-v3-key-of-thirty-two-char"
APP_ID, MERCHANT, SERIAL = "wx0000000000000001", "1900000001", "5A5A5A5A"
PUBLIC_KEY_ID = "PUB_KEY_ID_0119000000012026"
ORDER = Order("a" * 32, 5000, "50 coins")
PAYMENT_ID = "4200000000000000001"
# Type of a function that creates a gateway; keyword arguments replace its clocks.
NewGateway = Callable[..., WechatPayments]


@cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """Return an RSA key; calls with the same number return the same key.

    The key has 1,024 bits instead of 2,048, because a gateway loads it seven times as fast.
    """
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


def sign(key: rsa.RSAPrivateKey, *lines: str) -> str:
    text = "".join(f"{line}\n" for line in lines).encode()
    return base64.b64encode(key.sign(text, padding.PKCS1v15(), SHA256())).decode()


def check_signature(key: rsa.RSAPublicKey, signature: str, *lines: str) -> None:
    """Raise InvalidSignature if `signature` is not valid for `lines` and `key`."""
    text = "".join(f"{line}\n" for line in lines).encode()
    key.verify(base64.b64decode(signature), text, padding.PKCS1v15(), SHA256())


def encrypt_resource(text: str, *, associated_data: str, api_key: str = API_KEY) -> dict[str, str]:
    nonce = uuid.uuid4().hex[:12]
    ciphertext = AESGCM(api_key.encode()).encrypt(
        nonce.encode(), text.encode(), associated_data.encode()
    )
    return {
        "algorithm": "AEAD_AES_256_GCM",
        "nonce": nonce,
        "associated_data": associated_data,
        "ciphertext": base64.b64encode(ciphertext).decode(),
    }


@dataclass(frozen=True)
class Signer:
    """A signing key of WeChat Pay and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(
        cls,
        number: int,
        *,
        valid_from: timedelta = timedelta(days=-1),
        valid_until: timedelta = timedelta(days=1),
    ) -> "Signer":
        """Create a signer; its certificate's validity is relative to the current time."""
        key, now = rsa_key(number), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid_from)
            .not_valid_after(now + valid_until)
            .sign(key, SHA256())
        )
        return cls(key, certificate)

    @property
    def serial(self) -> str:
        return f"{self.certificate.serial_number:X}"

    def list_entry(self) -> dict[str, Any]:
        """Return the signer's entry in the list of certificates."""
        pem = self.certificate.public_bytes(Encoding.PEM).decode()
        return {
            "serial_no": self.serial,
            "effective_time": self.certificate.not_valid_before_utc.isoformat(),
            "expire_time": self.certificate.not_valid_after_utc.isoformat(),
            "encrypt_certificate": encrypt_resource(pem, associated_data="certificate"),
        }


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: Any

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class FakeResponse:
    """A response whose content is bytes or JSON.

    `signed_as` replaces the key id in the signature headers; "none" omits these headers.
    """

    status: int
    content: Any = b""
    signed_as: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        has_bytes = isinstance(self.content, bytes)
        return self.content if has_bytes else json.dumps(self.content).encode()


class FakeWechatPay:
    """State of the fake server: keys, prepared responses and received requests."""

    def __init__(self) -> None:
        self.merchant_key = rsa_key(0)
        self.signer = Signer.new(1)
        # If set, the server sends this response to each request for the list of certificates.
        self.certificates_response: FakeResponse | None = None
        self.listed_signers: list[Signer] = [self.signer]
        self.responses: dict[str, FakeResponse] = {}
        self.requests: list[Request] = []
        # Seconds that the server waits before it responds, by request path.
        self.delay_s: dict[str, float] = {}
        # Set at the end of the test, to end the delays of pending responses.
        self.closing = threading.Event()

    def received(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    @property
    def certificate_lookups(self) -> int:
        return len(self.received("/v3/certificates"))

    def response_to(self, path: str) -> FakeResponse:
        if path == "/v3/certificates":
            certificate_list_response = FakeResponse(
                200, {"data": [signer.list_entry() for signer in self.listed_signers]}
            )
            return self.certificates_response or certificate_list_response
        return self.responses.get(
            path, FakeResponse(404, {"code": "NOT_FOUND", "message": "no such path"})
        )

    def serve_bill(self, content: bytes, **changed_fields: Any) -> None:
        """Prepare the responses to the request for a bill and to its download."""
        bill_response = {
            "hash_type": "SHA1",
            "hash_value": hashlib.sha1(content).hexdigest(),
            "download_url": f"{API_URL}/v3/billdownload/file?token=abc%2Fd",
        }
        self.responses["/v3/bill/tradebill"] = FakeResponse(200, bill_response | changed_fields)
        self.responses["/v3/billdownload/file"] = FakeResponse(200, content, signed_as="none")

    def signed_headers(
        self,
        body: bytes,
        *,
        signing_key_id: str = "",
        key: rsa.RSAPrivateKey | None = None,
        signed_at: float | None = None,
    ) -> dict[str, str]:
        timestamp, nonce = str(int(signed_at or time.time())), uuid.uuid4().hex
        return {
            "Content-Type": "application/json",
            "Wechatpay-Serial": signing_key_id or self.signer.serial,
            "Wechatpay-Timestamp": timestamp,
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Signature": sign(key or self.signer.key, timestamp, nonce, body.decode()),
            "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
        }

    def notification(
        self, *, signing_key_id: str = "", **changed_fields: Any
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body of a payment notification with changed fields.

        `key` and `signed_at` are passed to signed_headers(), and `event` is the event type. All
        other changed fields are fields of the payment record.
        """
        options = {
            name: changed_fields.pop(name)
            for name in ("key", "signed_at")
            if name in changed_fields
        }
        event = changed_fields.pop("event", "TRANSACTION.SUCCESS")
        resource = encrypt_resource(
            json.dumps(transaction(**changed_fields)), associated_data="transaction"
        )
        body = json.dumps(
            {
                "id": str(uuid.uuid4()),
                "event_type": event,
                "resource_type": "encrypt-resource",
                "resource": {**resource, "original_type": "transaction"},
            }
        ).encode()
        headers = self.signed_headers(body, signing_key_id=signing_key_id, **options)
        return {name.lower(): value for name, value in headers.items()}, body


def transaction(**changed_fields: Any) -> dict[str, Any]:
    """Return the payment record of ORDER; changed fields with value None are omitted."""
    fields = {
        "mchid": MERCHANT,
        "appid": APP_ID,
        "out_trade_no": ORDER.order_id,
        "transaction_id": PAYMENT_ID,
        "trade_state": "SUCCESS",
        "success_time": "2026-10-03T10:34:56+08:00",
        "amount": {"total": 5000, "payer_total": 5000, "currency": "CNY"},
        **changed_fields,
    }
    return {name: value for name, value in fields.items() if value is not None}


class _Handler(BaseHTTPRequestHandler):
    wechat: FakeWechatPay

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        self._handle(self.rfile.read(int(self.headers["Content-Length"])))

    def _handle(self, body: bytes) -> None:
        wechat = self.wechat
        request = Request(
            self.command, self.path, dict(self.headers), json.loads(body) if body else None
        )
        wechat.requests.append(request)
        self._check_signature(body)
        wechat.closing.wait(wechat.delay_s.get(request.path, 0))
        with suppress(OSError):  # the client can close the connection first
            self._respond(wechat.response_to(request.path))

    def _check_signature(self, body: bytes) -> None:
        scheme, _, fields_text = self.headers["Authorization"].partition(" ")
        assert scheme == "WECHATPAY2-SHA256-RSA2048"
        fields = {
            name: value.strip('"')
            for name, _, value in (text.partition("=") for text in fields_text.split(","))
        }
        assert (fields["mchid"], fields["serial_no"]) == (MERCHANT, SERIAL)
        check_signature(
            self.wechat.merchant_key.public_key(),
            fields["signature"],
            *(self.command, self.path, fields["timestamp"], fields["nonce_str"], body.decode()),
        )

    def _respond(self, response: FakeResponse) -> None:
        headers: dict[str, str] = {}
        if response.signed_as != "none":
            requested_key_id = self.headers.get("Wechatpay-Serial", "")
            headers = self.wechat.signed_headers(
                response.body, signing_key_id=response.signed_as or requested_key_id
            )
        self.send_response(response.status)
        for name, value in (headers | response.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(wechat: FakeWechatPay) -> Iterator[str]:
    """Run the fake server; yield its URL, which replaces the URL of WeChat Pay's API."""
    handler = type("Handler", (_Handler,), {"wechat": wechat})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        wechat.closing.set()
        server.shutdown()
        server.server_close()
