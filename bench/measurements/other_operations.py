"""The operations that only livebackend implements."""

import re
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from PIL import Image

from bench import fill_database
from bench.harness import LIVEBACKENDS, ROUND_COUNT, Bench
from bench.load import Call
from livebackend_client import Client

_ACCOUNTS_PER_SERVER = 2000
# By then, the servers have written their log.
_LOG_PAUSE_S = 0.3


def measure_other_operations(bench: Bench) -> None:
    servers = bench.running(LIVEBACKENDS)

    def measure(
        name: str,
        calls: Callable[[int], list[list[Call]]],
        *,
        clients: int = 4,
        rounds: int = ROUND_COUNT,
    ) -> Any:
        """Measure the calls that a function returns for the number of the server."""
        sequences = {server: calls(number) for number, server in enumerate(servers)}
        return bench.measure_ordered(name, sequences, clients=clients, rounds=rounds)[1]

    def call(account: int, method: Callable[..., object], **params: Any) -> Call:
        return Call(method, bench.token(account), params)

    measure(
        "live + leave",
        lambda server: [
            [call(n, Client.live, title="hello"), call(n, Client.leave)] for n in _hosts(server)
        ],
    )
    measure(
        "refill",
        lambda server: [[call(n, Client.refill, money=50)] for n in _hosts(server)],
    )
    measure(
        "delete a message",
        lambda server: [
            [
                call(
                    account,
                    Client.deal_message,
                    **message_parameters(account, 7 + server),
                    behaviour="delete",
                )
            ]
            for account in range(1, 800)
        ],
    )
    picture_buffer = BytesIO()
    Image.effect_noise((640, 480), 50).convert("RGB").save(picture_buffer, "JPEG")
    picture = picture_buffer.getvalue()
    measure(
        "upload of 640 × 480",
        lambda _: [[Call(Client.upload, None, {"img": BytesIO(picture)})] for _ in range(60)],
    )
    _measure_registrations(bench, servers, measure)


def _hosts(server: int) -> list[int]:
    """Return accounts without a room, different ones for each server."""
    first_id = 40_001 + _ACCOUNTS_PER_SERVER * server
    # fill_database() opens a room for accounts 2000, 2098, 2196, ….
    return [n for n in range(first_id, first_id + _ACCOUNTS_PER_SERVER, 3) if (n - 2000) % 98]


def message_parameters(recipient_id: int, number: int) -> dict[str, str]:
    """Return parameters of `deal_message` for a request inserted by fill_database()."""
    sent_at_us = fill_database.FIRST_SENT_AT_US + recipient_id * 1000 + number
    applicant_phone = fill_database.phone_number(2000 + (recipient_id * 50 + number) % 98_000)
    phone = fill_database.phone_number(recipient_id)
    return {
        "user_id": phone,
        "verify_id": f"{phone},{sent_at_us}",
        "object_id": f"{applicant_phone},{sent_at_us}",
    }


def _measure_registrations(bench: Bench, servers: list[str], measure: Callable[..., Any]) -> None:
    """Measure registrations; read SMS codes from the log of the development gateway."""
    log = bench.folder / "servers.log"
    log_offset = log.stat().st_size
    tickets = measure(
        "send code",
        lambda server: [
            [Call(Client.send_code, None, {"token": phone})] for phone in _new_phones(server)
        ],
        clients=1,
        rounds=1,
    )
    time.sleep(_LOG_PAUSE_S)
    with log.open() as lines:
        lines.seek(log_offset)
        logged = re.findall(r"code for .*?([0-9]{4}): ([0-9]+)", lines.read())
    # The workers of a server write their lines in any order, but the servers were measured one
    # after the other.
    codes_by_digits: dict[str, list[str]] = {}
    for last_digits, code in logged:
        codes_by_digits.setdefault(last_digits, []).append(code)
    codes_by_server = [
        [
            {"code_v": ticket, "code": codes_by_digits[phone[-4:]][number]}
            for phone, ticket in zip(_new_phones(number), tickets[server], strict=True)
        ]
        for number, server in enumerate(servers)
    ]
    measure(
        "verify code",
        lambda server: [
            [Call(Client.verify_code, None, parameters)] for parameters in codes_by_server[server]
        ],
        clients=1,
    )
    profile = {"password": "harbour-42", "nickname": "Ann"}
    measure(
        "register",
        lambda server: [
            [Call(Client.register, None, {"user_id": phone, **profile})]
            for phone in _new_phones(server)
        ],
        clients=2,
    )


def _new_phones(server: int) -> list[str]:
    return [f"139{server}{n:07}" for n in range(40)]
