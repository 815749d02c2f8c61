"""The floor: a bare WSGI callable that does what the operations do, and nothing else.

The same statements as text through psycopg2, the login token verified, calls counted, the same JSON
by orjson. What is added to this is what the framework, SQLAlchemy and the strictness cost.
"""

import hmac
import os
import secrets
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from queue import LifoQueue
from urllib.parse import parse_qsl

import bcrypt
import orjson
import psycopg2
from sqlalchemy import make_url

from bench import fill
from livebackend.database import rate_limit_storage
from livebackend.models import CREDIT_SLOTS
from livebackend.services import authentication, friends, gifts, lists, login_tokens
from livebackend.services.password_hashing import Hasher, Slots

SECRET = os.environ["LIVEBACKEND_SECRETS"]
URL = make_url(os.environ["LIVEBACKEND_DATABASE_URL"])
CONNECTIONS = 10
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
# As itsdangerous derives it.
KEY = sha256(b"livebackend.login" + b"signer" + SECRET.encode()).digest()
HASHER = Hasher(os.environ["LIVEBACKEND_PASSWORDS_PEPPER"], cost=12)
KNOWN = HASHER.hash(fill.PASSWORD)
CREDIT_SLOT = 1 + secrets.randbelow(CREDIT_SLOTS)


FRIENDS, MESSAGES, FIND = lists._FRIENDS, lists._MESSAGES, friends._FIND
HOLDER, LOCK, STANDING = login_tokens._IDENTIFY.text, friends._LOCK.text, friends._STANDING
TO_LOG_IN, SIDES, ACQUIRE = (
    authentication._TO_LOG_IN.text,
    gifts._SIDES.text,
    rate_limit_storage._ACQUIRE.text,
)
SWEEP = str(rate_limit_storage._SWEEP)
ASK = "INSERT INTO friend_requests (applicant_id, addressee_id) VALUES (%s, %s)"
ACCEPT = (
    "UPDATE friend_requests SET state = 'accepted' WHERE id = %s AND state = 'open' RETURNING id"
)
NUMBERED = (
    "SELECT id, applicant_id, addressee_id, state, sent_at_us FROM friend_requests"
    " WHERE sent_at_us IN (%s, %s)"
)
BEFRIEND = "INSERT INTO friendships (account_id, friend_id) VALUES (%s, %s), (%s, %s)"
LOCK_COINS = (
    "SELECT amount FROM coin_slots WHERE coin_account_id = %s AND slot = 0 FOR NO KEY UPDATE"
)
CREDIT = (
    "INSERT INTO coin_slots (coin_account_id, slot, amount) VALUES (%s, %s, %s)"
    " ON CONFLICT (coin_account_id, slot)"
    " DO UPDATE SET amount = coin_slots.amount + excluded.amount"
)
DEBIT = "UPDATE coin_slots SET amount = amount - %s WHERE coin_account_id = %s AND slot = 0"
TRANSFER = (
    "INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)"
    " VALUES (1, %s, %s, %s, %s, %s) RETURNING id"
)
GIFT = "INSERT INTO gifts (transfer_id, host_id, room_id, description) VALUES (%s, %s, %s, %s)"

pool: "LifoQueue[psycopg2.extensions.connection]" = LifoQueue()
made = count(1)
calls = count()
slots = Slots(Path(os.environ["LIVEBACKEND_VAR_DIR"]) / "hashing", 1)


class Refused(Exception):
    pass


@contextmanager
def cursor() -> "Iterator[psycopg2.extensions.cursor]":
    if pool.empty() and next(made) <= CONNECTIONS:
        connection = psycopg2.connect(
            host=URL.query["host"], port=URL.query["port"], user=URL.username, dbname=URL.database
        )
        connection.autocommit = True
    else:
        connection = pool.get(timeout=1)
    try:
        with connection.cursor() as one:
            yield one
    finally:
        pool.put(connection)


@contextmanager
def transaction() -> "Iterator[psycopg2.extensions.cursor]":
    with cursor() as one:
        one.execute("BEGIN")
        try:
            yield one
        except BaseException:
            one.execute("ROLLBACK")
            raise
        one.execute("COMMIT")


def decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def claims(token: str) -> dict[str, object]:
    payload, _, signature = token.rpartition(".")
    expected = hmac.digest(KEY, payload.encode(), "sha256")
    if not hmac.compare_digest(decoded(signature), expected):
        raise Refused("0012")
    said = orjson.loads(decoded(payload))
    if said["exp"] <= time.time():
        raise Refused("0011")
    return {"token_id": said["jti"], "account_id": said["sub"], "version": said["v"]}


def identify(one: "psycopg2.extensions.cursor", token: str) -> int:
    one.execute(HOLDER, claims(token))
    found = one.fetchone()
    if not found:
        raise Refused("0012")
    return int(found[0])


def counted(one: "psycopg2.extensions.cursor", name: str, account: int) -> None:
    if next(calls) % 16 == 0:
        one.execute(SWEEP)
    key = f"LIMITS/LIMITER/{name}/account {account}/1000000/1/hour"
    one.execute(ACQUIRE, {"key": key, "amount": 1, "expiry": 3600, "most": 1_000_000})
    if not one.fetchone():
        raise Refused("0006")


def friendlist(form: dict[str, str]) -> object:
    with cursor() as one:
        one.execute(FRIENDS.text, {**FRIENDS.constant, **claims(form["token"]), "most": 5000})
        rows = one.fetchall()
    if not rows:
        raise Refused("0012")
    found = [
        {
            "userId": phone,
            "nickname": nickname,
            "gender": gender,
            "headImage": image,
            "liveStatus": "on" if urls else "off",
            "title": title,
            "playUrl": urls,
        }
        for phone, nickname, gender, image, title, urls in rows
        if phone
    ]
    return {"result": "0000", "message": {"count": len(found), "friends": found}}


def messagelist(form: dict[str, str]) -> object:
    with cursor() as one:
        one.execute(MESSAGES.text, {**MESSAGES.constant, **claims(form["token"]), "most": 500})
        rows = one.fetchall()
    if not rows:
        raise Refused("0012")
    return {
        "result": "0000",
        "message": [
            {
                "verifyId": f"{phone if applied else mine},{number}",
                "objectId": f"{mine if applied else phone},{number}",
                "userId": phone,
                "nickname": nickname,
                "gender": gender,
                "headImage": image,
                "flag": 2 * applied + accepted,
                "time": (EPOCH + timedelta(microseconds=number)).isoformat(timespec="microseconds")
                + "Z",
            }
            for mine, number, applied, accepted, phone, nickname, gender, image in rows
            if phone
        ],
    }


def search(form: dict[str, str]) -> object:
    with cursor() as one:
        me = identify(one, form["token"])
        counted(one, "search", me)
        one.execute(FIND.text, {"me": me, "phone": form["userId"]})
        found = one.fetchone()
    if not found:
        raise Refused("0007")
    other, phone, nickname, gender, image, is_friend = found
    return {
        "result": "0000",
        "message": {"userId": phone, "nickname": nickname, "gender": gender, "headImage": image},
        "flag": "-1" if other == me else "1" if is_friend else "0",
    }


def locked(one: "psycopg2.extensions.cursor", me: int, phone: str) -> int:
    one.execute(LOCK, {"me": me, "phone": phone})
    return next(account for account, its_phone in one.fetchall() if its_phone == phone)


def standing(one: "psycopg2.extensions.cursor", me: int, other: int) -> tuple:
    one.execute(STANDING.text, {**STANDING.constant, "me": me, "other": other})
    return one.fetchone()


def add(form: dict[str, str]) -> object:
    with transaction() as one:
        me = identify(one, form["token"])
        with cursor() as counter:
            counted(counter, "add", me)
        other = locked(one, me, form["userId"])
        are_friends, mine, theirs, *_ = standing(one, me, other)
        if are_friends:
            raise Refused("0010")
        if theirs:
            one.execute(ACCEPT, (theirs,))
            one.execute(BEFRIEND, (me, other, other, me))
        elif not mine:
            one.execute(ASK, (me, other))
    return {"result": "0000", "message": None}


def deal_message(form: dict[str, str]) -> object:
    with transaction() as one:
        me = identify(one, form["token"])
        other = locked(one, me, form["userId"])
        one.execute(
            NUMBERED, [int(form[name].partition(",")[2]) for name in ("verifyId", "objectId")]
        )
        one.fetchall()
        _, _, theirs, *_ = standing(one, me, other)
        if not theirs:
            raise Refused("0006")
        one.execute(ACCEPT, (theirs,))
        one.execute(BEFRIEND, (me, other, other, me))
    return {"result": "0000", "message": None}


def send_gift(form: dict[str, str]) -> object:
    coins = int(form["value"])
    with cursor() as one:
        one.execute(SIDES, {**claims(form["token"]), "phone": form["object"]})
        mine, theirs, host, room = one.fetchone()
    with transaction() as one:
        one.execute(LOCK_COINS, (mine,))
        if one.fetchone()[0] < coins:
            raise Refused("0013")
        one.execute(CREDIT, (theirs, CREDIT_SLOT, coins))
        one.execute(DEBIT, (coins, mine))
        one.execute(TRANSFER, (mine, theirs, coins, mine, str(uuid.uuid4())))
        (transfer,) = one.fetchone()
        one.execute(GIFT, (transfer, host, room, form["description"]))
    return {"result": "0000", "message": None}


def check(password: str, known: str) -> None:
    with slots.held(0):
        if not bcrypt.checkpw(HASHER._digest(password), known.encode()):
            raise Refused("0008")


def only_hash(form: dict[str, str]) -> object:
    check(form["password"], KNOWN)
    return {"result": "0000", "message": None}


def log_in(form: dict[str, str]) -> object:
    with cursor() as one:
        one.execute(TO_LOG_IN, {"phone": form["userId"]})
        account, _, version, password_hash, _ = one.fetchone()
    check(form["password"], password_hash)
    now = int(time.time())
    said = {"typ": "login", "sub": account, "v": version, "iat": now, "exp": now + 3600}
    payload = urlsafe_b64encode(orjson.dumps({**said, "jti": secrets.token_urlsafe(12)})).rstrip(
        b"="
    )
    signature = urlsafe_b64encode(hmac.digest(KEY, payload, "sha256")).rstrip(b"=")
    return {"result": "0000", "message": (payload + b"." + signature).decode()}


SELECTED: dict[str, Callable[[dict[str, str]], object]] = {
    "friendlist": friendlist,
    "messagelist": messagelist,
    "search": search,
    "add": add,
    "dealMessage": deal_message,
    "send_gift": send_gift,
    "hash": only_hash,
}


def application(environ: dict, start_response: Callable) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    operation = next((SELECTED[name] for name in SELECTED if form.get(name) == "1"), log_in)
    try:
        reply = operation(form)
    except Refused as error:
        reply = {"result": str(error), "message": None}
    content = orjson.dumps(reply)
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(content))),
        ("Cache-Control", "no-store"),
    ]
    start_response("200 OK", headers)
    return [content]
