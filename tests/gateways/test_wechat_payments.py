"""WeChat Pay: real signatures and encryption by keys made here; the network is our own server."""

import base64
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from webtest import TestApp

from livebackend.gateways.payments import NotGenuine, Order, Paid, PaymentFailed
from livebackend.gateways.wechat_payments import WechatPayments
from livebackend.settings import Settings
from tests.api import App, Person, World
from tests.conftest import INI

API_KEY = "an-api-v3-key-of-thirty-two-char"
APP_ID, MERCHANT, SERIAL = "wx0000000000000001", "1900000001", "5A5A5A5A"
PUBLIC_KEY_ID = "PUB_KEY_ID_0119000000012026"
GATEWAY = "https://api.mch.weixin.qq.com"
ORDER = Order("a" * 32, 5000, "50 coins")


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def sign(key: rsa.RSAPrivateKey, *lines: str) -> str:
    text = "".join(f"{line}\n" for line in lines).encode()
    return base64.b64encode(key.sign(text, padding.PKCS1v15(), SHA256())).decode()


def is_signed(key: rsa.RSAPublicKey, signature: str, *lines: str) -> None:
    """Raises unless the signature is the key's."""
    text = "".join(f"{line}\n" for line in lines).encode()
    key.verify(base64.b64decode(signature), text, padding.PKCS1v15(), SHA256())


def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )


def encrypted(text: str, *, about: str) -> dict[str, str]:
    nonce = uuid.uuid4().hex[:12]
    sealed = AESGCM(API_KEY.encode()).encrypt(nonce.encode(), text.encode(), about.encode())
    return {
        "algorithm": "AEAD_AES_256_GCM",
        "nonce": nonce,
        "associated_data": about,
        "ciphertext": base64.b64encode(sealed).decode(),
    }


class Wechat:
    """WeChat's side: what it was asked, what it answers, what it signs."""

    def __init__(self) -> None:
        self.key, self.merchant_key = new_key(), new_key()
        self.certificate = certificate(self.key)
        self.serial = f"{self.certificate.serial_number:X}"
        self.asked: list[dict[str, Any]] = []
        self.certificates_asked = 0
        self.status, self.answer = 200, {"prepay_id": "wx-prepaid-1"}
        self.silent_s = 0.0

    def signed_headers(self, body: str, *, by: str, key: rsa.RSAPrivateKey | None = None,
                       at: float | None = None) -> dict[str, str]:  # fmt: skip
        sent_at, nonce = str(int(at or time.time())), uuid.uuid4().hex
        return {
            "Content-Type": "application/json",
            "Wechatpay-Serial": by,
            "Wechatpay-Timestamp": sent_at,
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Signature": sign(key or self.key, sent_at, nonce, body),
            "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
        }

    def notification(self, *, by: str, **changed: Any) -> tuple[dict[str, str], bytes]:
        """News of a payment, genuine unless `key` or `at` is another's."""
        signing = {name: changed.pop(name) for name in ("key", "at") if name in changed}
        event = changed.pop("event", "TRANSACTION.SUCCESS")
        payment = {
            "mchid": MERCHANT,
            "appid": APP_ID,
            "out_trade_no": ORDER.order_id,
            "transaction_id": "4200000000000000001",
            "trade_state": "SUCCESS",
            "amount": {"total": 5000, "payer_total": 5000, "currency": "CNY"},
            **changed,
        }
        resource = encrypted(json.dumps(payment), about="transaction")
        body = json.dumps(
            {
                "id": str(uuid.uuid4()),
                "event_type": event,
                "resource_type": "encrypt-resource",
                "resource": {**resource, "original_type": "transaction"},
            }
        )
        return self.signed_headers(body, by=by, **signing), body.encode()


class _Handler(BaseHTTPRequestHandler):
    wechat: Wechat

    def do_GET(self) -> None:
        assert self.path == "/v3/certificates"
        self.wechat.certificates_asked += 1
        pem = self.wechat.certificate.public_bytes(Encoding.PEM).decode()
        now = datetime.now(UTC).isoformat()
        kept = encrypted(pem, about="certificate")
        one = {"serial_no": self.wechat.serial, "effective_time": now, "expire_time": now}
        self.reply(200, {"data": [{**one, "encrypt_certificate": kept}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.wechat.asked.append({"path": self.path, "body": json.loads(body)})
        said = dict(
            part.split("=", 1) for part in self.headers["Authorization"].split(" ", 1)[1].split(",")
        )
        said = {name: value.strip('"') for name, value in said.items()}
        is_signed(
            self.wechat.merchant_key.public_key(),
            said["signature"],
            *("POST", self.path, said["timestamp"], said["nonce_str"], body),
        )
        time.sleep(self.wechat.silent_s)
        self.reply(self.wechat.status, self.wechat.answer)

    def reply(self, status: int, answer: object) -> None:
        body = json.dumps(answer)
        self.send_response(status)
        for name, value in self.wechat.signed_headers(body, by=self.wechat.serial).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def keys() -> Wechat:
    return Wechat()


@pytest.fixture
def wechat(keys: Wechat, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wechat]:
    """WeChat, as far as the library can tell: its address leads here."""
    keys.asked, keys.certificates_asked = [], 0
    keys.status, keys.answer, keys.silent_s = 200, {"prepay_id": "wx-prepaid-1"}, 0.0
    handler = type("Handler", (_Handler,), {"wechat": keys})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    request = requests.Session.request

    def at_ours(self: requests.Session, method: str, url: str, **options: Any) -> Any:
        assert url.startswith(GATEWAY), url
        ours = f"http://127.0.0.1:{server.server_port}"
        return request(self, method, url.replace(GATEWAY, ours), **options)

    monkeypatch.setattr(requests.Session, "request", at_ours)
    yield keys
    server.shutdown()
    server.server_close()


@pytest.fixture
def by_certificate(wechat: Wechat, tmp_path: Path) -> dict[str, str]:
    key_file = tmp_path / "merchant.pem"
    key_file.write_bytes(
        wechat.merchant_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return {
        "wechat.app_id": APP_ID,
        "wechat.merchant": MERCHANT,
        "wechat.serial": SERIAL,
        "wechat.key_file": str(key_file),
        "wechat.api_key": API_KEY,
    }


@pytest.fixture
def by_public_key(by_certificate: dict[str, str], wechat: Wechat, tmp_path: Path) -> dict[str, str]:
    key_file = tmp_path / "wechat.pem"
    key = wechat.key.public_key()
    key_file.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    named = {"wechat.public_key_file": str(key_file), "wechat.public_key_id": PUBLIC_KEY_ID}
    return by_certificate | named


def gateway(ini: dict[str, str]) -> WechatPayments:
    needed = {
        "database.url": "embedded",
        "var.dir": "/tmp/x",
        "secrets": "s" * 32,
        "passwords.pepper": "p" * 32,
        "http.url": "https://live.example",
        "streams.gateway": "tests.outside.CountedStreams",
    }
    return WechatPayments.from_settings(Settings.load({**needed, **ini}, {}))


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@pytest.fixture(params=["certificate", "public key"])
def payments(
    request: pytest.FixtureRequest, by_certificate: dict[str, str], by_public_key: dict[str, str]
) -> WechatPayments:
    return gateway(by_certificate if request.param == "certificate" else by_public_key)


@pytest.fixture
def by(payments: WechatPayments, wechat: Wechat) -> str:
    """What WeChat signs with, by name."""
    return payments._pay._core._public_key_id or wechat.serial


class TestPlacing:
    def test_an_order_is_placed_and_the_app_told_how_to_pay(
        self, by_certificate: dict[str, str], wechat: Wechat
    ) -> None:
        pay = gateway(by_certificate).place(ORDER)
        (asked,) = wechat.asked
        assert asked["path"] == "/v3/pay/transactions/app"
        assert asked["body"] == {
            "appid": APP_ID,
            "mchid": MERCHANT,
            "out_trade_no": ORDER.order_id,
            "description": "50 coins",
            "notify_url": "https://live.example/payments",
            "amount": {"total": 5000, "currency": "CNY"},
        }
        signature = pay.pop("sign")
        signed = (APP_ID, pay["timestamp"], pay["noncestr"], "wx-prepaid-1")
        is_signed(wechat.merchant_key.public_key(), signature, *signed)
        assert pay.keys() == {
            *("appid", "partnerid", "prepayid", "package", "noncestr", "timestamp")
        }
        assert (pay["partnerid"], pay["package"]) == (MERCHANT, "Sign=WXPay")

    @pytest.mark.parametrize(
        ("status", "answer"),
        [(403, {"code": "NO_AUTH"}), (500, {}), (200, {}), (200, []), (200, {"prepay_id": ""})],
    )
    def test_a_refusal_is_a_failure(
        self, status: int, answer: Any, by_certificate: dict[str, str], wechat: Wechat
    ) -> None:
        wechat.status, wechat.answer = status, answer
        with pytest.raises(PaymentFailed):
            gateway(by_certificate).place(ORDER)

    def test_an_answer_that_somebody_else_signed_is_a_failure(
        self, by_certificate: dict[str, str], wechat: Wechat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        payments = gateway(by_certificate)
        monkeypatch.setattr(wechat, "key", new_key())
        with pytest.raises(PaymentFailed, match="signature"):
            payments.place(ORDER)

    def test_silence_is_a_failure_in_time(
        self, by_certificate: dict[str, str], wechat: Wechat
    ) -> None:
        payments = gateway(by_certificate)
        wechat.silent_s = 4
        started = time.monotonic()
        with pytest.raises(PaymentFailed):
            payments.place(ORDER)
        assert time.monotonic() - started < 3.8


class TestReading:
    def test_a_genuine_notification_says_what_was_paid(
        self, payments: WechatPayments, by: str, wechat: Wechat
    ) -> None:
        headers, body = wechat.notification(by=by)
        paid = payments.read(lower(headers), body)
        assert paid == Paid(ORDER.order_id, "4200000000000000001", 5000)

    def test_what_somebody_else_signed_is_refused(
        self, payments: WechatPayments, by: str, wechat: Wechat
    ) -> None:
        headers, body = wechat.notification(by=by, key=new_key())
        with pytest.raises(NotGenuine, match="signature"):
            payments.read(lower(headers), body)

    @pytest.mark.parametrize("changed", [b"x", b"", b"\xff", b"[]", b"null"])
    def test_another_body_is_refused(
        self, changed: bytes, payments: WechatPayments, by: str, wechat: Wechat
    ) -> None:
        headers, _ = wechat.notification(by=by)
        with pytest.raises(NotGenuine):
            payments.read(lower(headers), changed)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("Wechatpay-Signature", ""),
            ("Wechatpay-Signature", "é"),
            ("Wechatpay-Nonce", "another"),
            ("Wechatpay-Signature-Type", "WECHATPAY2-SM2-WITH-SM3"),
            ("Wechatpay-Serial", "not a number"),
            ("Wechatpay-Serial", ""),
            ("Wechatpay-Timestamp", "now"),
            ("Wechatpay-Timestamp", "1"),
        ],
    )
    def test_a_wrong_header_is_refused(
        self, name: str, value: str, payments: WechatPayments, by: str, wechat: Wechat
    ) -> None:
        headers, body = wechat.notification(by=by)
        with pytest.raises(NotGenuine):
            payments.read(lower(headers | {name: value}), body)

    @pytest.mark.parametrize("by_s", [-400, 400])
    def test_one_of_another_time_is_refused(
        self, by_s: float, payments: WechatPayments, by: str, wechat: Wechat
    ) -> None:
        headers, body = wechat.notification(by=by, at=time.time() + by_s)
        with pytest.raises(NotGenuine, match="time"):
            payments.read(lower(headers), body)

    @pytest.mark.parametrize(
        "changed",
        [
            {"event": "REFUND.SUCCESS"},
            {"mchid": "1900000002"},
            {"appid": "wx0000000000000002"},
            {"trade_state": "USERPAYING"},
            {"amount": {"total": 5000, "currency": "HKD"}},
        ],
    )
    def test_other_news_is_no_payment(
        self, changed: dict[str, Any], payments: WechatPayments, by: str, wechat: Wechat
    ) -> None:
        headers, body = wechat.notification(by=by, **changed)
        assert payments.read(lower(headers), body) is None

    def test_a_new_certificate_is_fetched_but_not_for_every_stranger(
        self, by_certificate: dict[str, str], wechat: Wechat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        payments = gateway(by_certificate)
        assert wechat.certificates_asked == 1
        key = new_key()
        monkeypatch.setattr(wechat, "key", key)
        monkeypatch.setattr(wechat, "certificate", certificate(key))
        monkeypatch.setattr(wechat, "serial", f"{wechat.certificate.serial_number:X}")
        headers, body = wechat.notification(by=wechat.serial)
        assert payments.read(lower(headers), body)
        assert wechat.certificates_asked == 2
        for serial in ("ABCDEF", "123456", "F" * 64):
            headers, body = wechat.notification(by=serial)
            with pytest.raises(NotGenuine, match="serial"):
                payments.read(lower(headers), body)
        assert wechat.certificates_asked == 2


class TestSettings:
    @pytest.mark.parametrize("name", ["app_id", "merchant", "serial", "key_file", "api_key"])
    def test_what_is_missing_is_named(self, name: str, by_public_key: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=f"needs wechat.{name}"):
            gateway(by_public_key | {f"wechat.{name}": ""})

    def test_a_key_that_is_none_is_a_fault(
        self, by_public_key: dict[str, str], tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match="No such file"):
            gateway(by_public_key | {"wechat.key_file": str(tmp_path / "none.pem")})
        (tmp_path / "wrong.pem").write_text("x")
        with pytest.raises(ValueError, match="private key"):
            gateway(by_public_key | {"wechat.key_file": str(tmp_path / "wrong.pem")})


def test_a_refill_is_ordered_paid_and_booked(
    new_app: Callable[..., App],
    by_public_key: dict[str, str],
    wechat: Wechat,
    ann: Person,
    world: World,
) -> None:
    named = {name.replace(".", "__"): value for name, value in by_public_key.items()}
    wechat_payments = "livebackend.gateways.wechat_payments.WechatPayments"
    app = new_app(INI, coins__refill="order", payments__gateway=wechat_payments, **named)
    ordered = Person(app, ann.always, ann.phone).refill("50").message
    assert ordered["pay"]["prepayid"] == "wx-prepaid-1"
    news = {"by": PUBLIC_KEY_ID, "out_trade_no": ordered["orderId"]}
    for headers, body, status in [
        (*wechat.notification(**news, amount={"total": 1000, "currency": "CNY"}), 400),
        (*wechat.notification(**news, key=new_key()), 400),
        (*wechat.notification(**news), 204),
        (*wechat.notification(**news), 204),
        (*wechat.notification(**news, transaction_id="4200000000000000002"), 400),
    ]:
        answer = TestApp(app).post("/payments", body, headers=headers, status="*")
        assert answer.status_int == status
        assert world.coins(ann) == (50 if status == 204 or world.coins(ann) else 0)
    assert world.coins(ann) == 50
    assert len(world.rows("transfers")) == 1
