"""Providers that accept connections and never respond."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.chaos.classification import Call, Result
from tests.chaos.client import Endpoint, HttpClient
from tests.chaos.load import Load, send
from tests.chaos.observation import Observation, observe
from tests.chaos.rows import CLIENT_COUNT, NO_EFFECT_LIMITS, Row, Scale
from tests.chaos.site import Site
from tests.chaos.users import User
from tests.chaos.wechat_gateway import URL_VARIABLE, RedirectedWechatPayments
from tests.support.application import DEVELOPMENT_INI
from tests.support.wechat_server import API_KEY, APP_ID, MERCHANT, PUBLIC_KEY_ID, SERIAL, rsa_key

# A call of a provider ends within 4 s, and an API call within 5 s.
_MAX_PROVIDER_CALL_S = 5.0
_MAX_OTHER_CALL_S = 2.0

NewCall = Callable[[User, int], Call]


@contextmanager
def silent_provider() -> Iterator[str]:
    """Yield the URL of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        accepted: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    accepted.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        connection.close()


def observe_hanging_providers(site: Site, scale: Scale) -> Observation:
    """Let Pili, the SMS provider and WeChat Pay hang, and use each of them."""
    with silent_provider() as url:
        variables = {URL_VARIABLE: url, "PYTHONPATH": str(DEVELOPMENT_INI.parent)}
        with site.own_server(_provider_settings(url, site.folder), variables=variables) as server:
            endpoint = Endpoint(server.port)
            load = Load(site.users, endpoint, CLIENT_COUNT, with_streams=False)
            provider_results: list[Result] = []

            def use_providers() -> None:
                end = time.monotonic() + scale.pick(15, 5)
                users = site.users.users[CLIENT_COUNT:]
                threads = [
                    threading.Thread(
                        target=_call_until, args=(endpoint, users[n], call, end, provider_results)
                    )
                    for n, call in enumerate([_go_live, _send_code, _refill] * 2)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

            observation = observe(load, site.postgres.url, use_providers)
    return _with_provider_calls(observation, provider_results)


def _with_provider_calls(observation: Observation, calls: Sequence[Result]) -> Observation:
    longest_other_s = observation.longest_s
    longest_provider_s = max(result.duration_s for result in calls)
    notes = [f"{len(calls)} calls of providers: {longest_provider_s:.1f} s at most"]
    errors = []
    if longest_provider_s > _MAX_PROVIDER_CALL_S:
        errors.append(f"a call of a provider took {longest_provider_s:.1f} s")
    if longest_other_s > _MAX_OTHER_CALL_S:
        errors.append(f"another call took {longest_other_s:.1f} s")
    return replace(
        observation,
        results=[*observation.results, *calls],
        errors=observation.errors + errors,
        notes=notes,
    )


def _call_until(
    endpoint: Endpoint, user: User, new_call: NewCall, end: float, results: list[Result]
) -> None:
    client = HttpClient(endpoint, "127.0.2.1")
    for number in itertools.count():
        if time.monotonic() > end:
            return
        results.append(send(client, new_call(user, number)))
        time.sleep(0.1)


def _go_live(user: User, number: int) -> Call:
    form = {"live": "1", "token": user.token, "title": str(number)}
    return _failing_call("live", "/room", form, "0009")


def _send_code(user: User, number: int) -> Call:
    phone = f"139{user.account.id % 1000:03}{number:05}"
    return _failing_call("send code", "/register", {"token": phone}, "0002")


def _refill(user: User, number: int) -> Call:
    form = {"refill": "1", "token": user.token, "money": "10", "requestId": f"refill-{number}"}
    return _failing_call("refill", "/golden", form, "0013")


def _failing_call(name: str, path: str, form: dict[str, str], code: str) -> Call:
    """Return a call whose correct response is the refusal `code`."""
    return Call(name, path, form, code, lambda envelope: "" if envelope["result"] == code else "?")


def _provider_settings(url: str, folder: Path) -> dict[str, str]:
    private_key_file, public_key_file = folder / "merchant.pem", folder / "wechat.pem"
    private_key_file.write_bytes(
        rsa_key(1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    public_key_file.write_bytes(
        rsa_key(2).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return {
        "streams.gateway": "livebackend.gateways.streams.pili_v1.PiliV1",
        "streams.api_url": url,
        "sms.gateway": "livebackend.gateways.sms.qiniu.QiniuSms",
        "sms.api_url": url,
        "sms.template": "template",
        "qiniu.access_key": "key",
        "qiniu.secret_key": "secret",
        "coins.refill": "order",
        "payments.gateway": f"{RedirectedWechatPayments.__module__}.RedirectedWechatPayments",
        "http.public_url": "https://live.example",
        "wechat.app_id": APP_ID,
        "wechat.merchant": MERCHANT,
        "wechat.serial": SERIAL,
        "wechat.key_file": str(private_key_file),
        "wechat.api_key": API_KEY,
        "wechat.public_key_file": str(public_key_file),
        "wechat.public_key_id": PUBLIC_KEY_ID,
    }


ROWS = [Row("providers hanging", observe_hanging_providers, NO_EFFECT_LIMITS)]
