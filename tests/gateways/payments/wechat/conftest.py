"""Fixtures that redirect requests for WeChat Pay's host to a fake server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from livebackend.config.settings import Settings
from livebackend.gateways.payments.wechat.client import API_URL
from livebackend.gateways.payments.wechat.gateway import WechatPayments
from tests.support.settings import REQUIRED_SETTINGS
from tests.support.wechat_server import (
    API_KEY,
    APP_ID,
    MERCHANT,
    PUBLIC_KEY_ID,
    SERIAL,
    FakeWechatPay,
    NewGateway,
    serving,
)


@pytest.fixture
def wechat(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWechatPay]:
    wechat = FakeWechatPay()
    send_request = requests.Session.request
    with serving(wechat) as server_url:

        def request_fake(self: requests.Session, method: str, url: str, **options: Any) -> Any:
            assert url.startswith(f"{API_URL}/"), url
            return send_request(self, method, url.replace(API_URL, server_url), **options)

        monkeypatch.setattr(requests.Session, "request", request_fake)
        yield wechat


@pytest.fixture
def certificate_settings(wechat: FakeWechatPay, tmp_path: Path) -> dict[str, str]:
    """Settings of a gateway that verifies signatures with platform certificates."""
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
def public_key_settings(
    certificate_settings: dict[str, str], wechat: FakeWechatPay, tmp_path: Path
) -> dict[str, str]:
    """Settings of a gateway that verifies signatures with WeChat Pay's public key."""
    key_file = tmp_path / "wechat.pem"
    key = wechat.signer.key.public_key()
    key_file.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    public_key = {"wechat.public_key_file": str(key_file), "wechat.public_key_id": PUBLIC_KEY_ID}
    return certificate_settings | public_key


@pytest.fixture
def new_gateway() -> NewGateway:
    """A function that creates a gateway from settings, optionally with fake clocks."""

    def create(settings: dict[str, str], **clocks: Callable[[], float]) -> WechatPayments:
        return WechatPayments.from_settings(
            Settings.load({**REQUIRED_SETTINGS, **settings}, {}), **clocks
        )

    return create


@pytest.fixture
def payments(certificate_settings: dict[str, str], new_gateway: NewGateway) -> WechatPayments:
    return new_gateway(certificate_settings)
