"""Baseline: a WSGI callable that executes the operations without any framework.

The callable sends livebackend's SQL statements as text through psycopg2, verifies the login token,
counts requests against the rate limits, and creates the same JSON with orjson. The CPU time that
livebackend needs in addition is the cost of the framework, SQLAlchemy and validation.
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
import psycopg2.errors
from sqlalchemy import make_url

from bench import fill_database
from livebackend.database import rate_limit_counters
from livebackend.models import CREDIT_SLOTS
from livebackend.services import authentication, friends, gifts, lists, login_tokens
from livebackend.services.machine_semaphore import MachineSemaphore
from livebackend.services.password_hashing import PasswordHasher

SECRET = os.environ["LIVEBACKEND_SECRETS"]
DATABASE_URL = make_url(os.environ["LIVEBACKEND_DATABASE_URL"])
MAX_CONNECTIONS = 10
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
# Signing key of login tokens, derived from the secret as itsdangerous derives it.
SIGNING_KEY = sha256(b"livebackend.login" + b"signer" + SECRET.encode()).digest()
PASSWORD_HASHER = PasswordHasher(os.environ["LIVEBACKEND_PASSWORDS_PEPPER"], cost=12)
PASSWORD_HASH = PASSWORD_HASHER.hash(fill_database.PASSWORD)
CREDIT_SLOT = 1 + secrets.randbelow(CREDIT_SLOTS)


FRIEND_LIST, MESSAGE_LIST = lists._FRIENDS, lists._MESSAGES
FIND_ACCOUNT, RELATIONSHIP = friends._SEARCH, friends._RELATIONSHIP
LOCK_ACCOUNTS = friends._LOCK_ACCOUNTS.text
TOKEN_OWNER = login_tokens._IDENTIFY.text
LOGIN_ACCOUNT = authentication._ACCOUNT_BY_PHONE.text
GIFT_ACCOUNTS = gifts._COIN_ACCOUNTS.text
COUNT_REQUEST = rate_limit_counters._COUNT_REQUEST.text
INSERT_REQUEST = "INSERT INTO friend_requests (applicant_id, addressee_id) VALUES (%s, %s)"
ACCEPT_REQUEST = (
    "UPDATE friend_requests SET state = 'accepted' WHERE id = %s AND state = 'open' RETURNING id"
)
REQUESTS_BY_TIME = (
    "SELECT id, applicant_id, addressee_id, state, sent_at_us FROM friend_requests"
    " WHERE sent_at_us IN (%s, %s)"
)
INSERT_FRIENDSHIPS = "INSERT INTO friendships (account_id, friend_id) VALUES (%s, %s), (%s, %s)"
LOCK_COINS = (
    "SELECT amount FROM coin_slots WHERE coin_account_id = %s AND slot = 0 FOR NO KEY UPDATE"
)
CREDIT = (
    "INSERT INTO coin_slots (coin_account_id, slot, amount) VALUES (%s, %s, %s)"
    " ON CONFLICT (coin_account_id, slot)"
    " DO UPDATE SET amount = coin_slots.amount + excluded.amount"
)
DEBIT = "UPDATE coin_slots SET amount = amount - %s WHERE coin_account_id = %s AND slot = 0"
INSERT_TRANSFER = (
    "INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)"
    " VALUES (1, %s, %s, %s, %s, %s) RETURNING id"
)
INSERT_GIFT = (
    "INSERT INTO gifts (transfer_id, host_id, room_id, description) VALUES (%s, %s, %s, %s)"
)

pool: "LifoQueue[psycopg2.extensions.connection]" = LifoQueue()
connection_numbers = count(1)
hash_semaphore = MachineSemaphore(Path(os.environ["LIVEBACKEND_DATA_DIR"]) / "hashing", 1)


class OperationFailed(Exception):
    """An operation failed; the text of the exception is the result code."""


@contextmanager
def cursor() -> "Iterator[psycopg2.extensions.cursor]":
    if pool.empty() and next(connection_numbers) <= MAX_CONNECTIONS:
        connection = psycopg2.connect(
            host=DATABASE_URL.query["host"],
            port=DATABASE_URL.query["port"],
            user=DATABASE_URL.username,
            dbname=DATABASE_URL.database,
        )
        connection.autocommit = True
    else:
        connection = pool.get(timeout=1)
    try:
        with connection.cursor() as db:
            yield db
    finally:
        pool.put(connection)


@contextmanager
def transaction() -> "Iterator[psycopg2.extensions.cursor]":
    with cursor() as db:
        db.execute("BEGIN")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def base64url_decode(encoded: str) -> bytes:
    return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def verified_claims(token: str) -> dict[str, object]:
    payload, _, signature = token.rpartition(".")
    expected = hmac.digest(SIGNING_KEY, payload.encode(), "sha256")
    if not hmac.compare_digest(base64url_decode(signature), expected):
        raise OperationFailed("0012")
    token_claims = orjson.loads(base64url_decode(payload))
    if token_claims["exp"] <= time.time():
        raise OperationFailed("0011")
    return {
        "token_id": token_claims["jti"],
        "account_id": token_claims["sub"],
        "version": token_claims["v"],
    }


def identify(db: "psycopg2.extensions.cursor", token: str) -> int:
    db.execute(TOKEN_OWNER, verified_claims(token))
    row = db.fetchone()
    if not row:
        raise OperationFailed("0012")
    return int(row[0])


def apply_rate_limit(
    db: "psycopg2.extensions.cursor",
    name: str,
    account: int,
    *,
    checks_unknown_users: bool = False,
    error_code: str = "0006",
) -> None:
    names = [name, "unknown_users"] if checks_unknown_users else [name]
    rules = {
        "keys": [f"{limit}/3600/{account}" for limit in names],
        "maximums": [1_000_000] * len(names),
        "windows_s": [3600] * len(names),
        "counted": [limit == name for limit in names],
    }
    db.execute(COUNT_REQUEST, rules)
    if db.fetchone():
        raise OperationFailed(error_code)


def friendlist(form: dict[str, str]) -> object:
    with cursor() as db:
        db.execute(
            FRIEND_LIST.text,
            {**FRIEND_LIST.constant_values, **verified_claims(form["token"]), "limit": 5000},
        )
        rows = db.fetchall()
    if not rows:
        raise OperationFailed("0012")
    friend_items = [
        {
            "userId": phone,
            "nickname": nickname,
            "gender": gender,
            "headImage": head_image,
            "liveStatus": "on" if play_urls else "off",
            "title": title,
            "playUrl": play_urls,
        }
        for phone, nickname, gender, head_image, title, play_urls in rows
        if phone
    ]
    return {"result": "0000", "message": {"count": len(friend_items), "friends": friend_items}}


def messagelist(form: dict[str, str]) -> object:
    with cursor() as db:
        db.execute(
            MESSAGE_LIST.text,
            {**MESSAGE_LIST.constant_values, **verified_claims(form["token"]), "limit": 500},
        )
        rows = db.fetchall()
    if not rows:
        raise OperationFailed("0012")
    return {
        "result": "0000",
        "message": [
            {
                "verifyId": f"{phone if is_sender else own_phone},{sent_at_us}",
                "objectId": f"{own_phone if is_sender else phone},{sent_at_us}",
                "userId": phone,
                "nickname": nickname,
                "gender": gender,
                "headImage": head_image,
                "flag": 2 * is_sender + is_accepted,
                "time": (EPOCH + timedelta(microseconds=sent_at_us)).isoformat(
                    timespec="microseconds"
                )
                + "Z",
            }
            for (
                own_phone,
                sent_at_us,
                is_sender,
                is_accepted,
                phone,
                nickname,
                gender,
                head_image,
            ) in rows
            if phone
        ],
    }


def search(form: dict[str, str]) -> object:
    with cursor() as db:
        own_id = identify(db, form["token"])
        apply_rate_limit(db, "search", own_id, checks_unknown_users=True)
        db.execute(FIND_ACCOUNT.text, {"me": own_id, "phone": form["userId"]})
        row = db.fetchone()
    if not row:
        raise OperationFailed("0007")
    other_id, phone, nickname, gender, head_image, is_friend = row
    return {
        "result": "0000",
        "message": {
            "userId": phone,
            "nickname": nickname,
            "gender": gender,
            "headImage": head_image,
        },
        "flag": "-1" if other_id == own_id else "1" if is_friend else "0",
    }


def lock_accounts(db: "psycopg2.extensions.cursor", own_id: int, phone: str) -> int:
    db.execute(LOCK_ACCOUNTS, {"me": own_id, "user_id": phone})
    return next(account_id for account_id, row_phone, _ in db.fetchall() if row_phone == phone)


def find_relationship(db: "psycopg2.extensions.cursor", own_id: int, other_id: int) -> tuple:
    db.execute(RELATIONSHIP.text, {**RELATIONSHIP.constant_values, "me": own_id, "other": other_id})
    return db.fetchone()


def add(form: dict[str, str]) -> object:
    with transaction() as db:
        own_id = identify(db, form["token"])
        with cursor() as limit_db:
            apply_rate_limit(limit_db, "friend_requests", own_id, checks_unknown_users=True)
        other_id = lock_accounts(db, own_id, form["userId"])
        are_friends, own_request_id, their_request_id, *_ = find_relationship(db, own_id, other_id)
        if are_friends:
            raise OperationFailed("0010")
        if their_request_id:
            db.execute(ACCEPT_REQUEST, (their_request_id,))
            db.execute(INSERT_FRIENDSHIPS, (own_id, other_id, other_id, own_id))
        elif not own_request_id:
            db.execute(INSERT_REQUEST, (own_id, other_id))
    return {"result": "0000", "message": None}


def deal_message(form: dict[str, str]) -> object:
    with transaction() as db:
        own_id = identify(db, form["token"])
        with cursor() as limit_db:
            apply_rate_limit(limit_db, "friend_changes", own_id)
        other_id = lock_accounts(db, own_id, form["userId"])
        db.execute(
            REQUESTS_BY_TIME,
            [int(form[name].partition(",")[2]) for name in ("verifyId", "objectId")],
        )
        db.fetchall()
        _, _, their_request_id, *_ = find_relationship(db, own_id, other_id)
        if not their_request_id:
            raise OperationFailed("0006")
        db.execute(ACCEPT_REQUEST, (their_request_id,))
        db.execute(INSERT_FRIENDSHIPS, (own_id, other_id, other_id, own_id))
    return {"result": "0000", "message": None}


def send_gift(form: dict[str, str]) -> object:
    coins = int(form["value"])
    with cursor() as db:
        db.execute(GIFT_ACCOUNTS, {**verified_claims(form["token"]), "user_id": form["object"]})
        sender_coin_account_id, host_coin_account_id, host_id, room_id = db.fetchone()
        apply_rate_limit(
            db, "gifts", sender_coin_account_id, checks_unknown_users=True, error_code="0013"
        )
    with transaction() as db:
        db.execute(LOCK_COINS, (sender_coin_account_id,))
        if db.fetchone()[0] < coins:
            raise OperationFailed("0013")
        db.execute(CREDIT, (host_coin_account_id, CREDIT_SLOT, coins))
        db.execute(DEBIT, (coins, sender_coin_account_id))
        db.execute(
            INSERT_TRANSFER,
            (
                sender_coin_account_id,
                host_coin_account_id,
                coins,
                sender_coin_account_id,
                str(uuid.uuid4()),
            ),
        )
        (transfer_id,) = db.fetchone()
        db.execute(INSERT_GIFT, (transfer_id, host_id, room_id, form["description"]))
    return {"result": "0000", "message": None}


def check_password(password: str, password_hash: str) -> None:
    with hash_semaphore.acquire(0, timeout_s=60):
        if not bcrypt.checkpw(PASSWORD_HASHER._digest(password), password_hash.encode()):
            raise OperationFailed("0008")


def hash_only(form: dict[str, str]) -> object:
    check_password(form["password"], PASSWORD_HASH)
    return {"result": "0000", "message": None}


def log_in(form: dict[str, str]) -> object:
    with cursor() as db:
        db.execute(LOGIN_ACCOUNT, {"phone": form["userId"]})
        account, _, token_version, password_hash, *_ = db.fetchone()
    check_password(form["password"], password_hash)
    now = int(time.time())
    token_claims = {
        "typ": "login",
        "sub": account,
        "v": token_version,
        "iat": now,
        "exp": now + 3600,
    }
    payload = urlsafe_b64encode(
        orjson.dumps({**token_claims, "jti": secrets.token_urlsafe(12)})
    ).rstrip(b"=")
    signature = urlsafe_b64encode(hmac.digest(SIGNING_KEY, payload, "sha256")).rstrip(b"=")
    return {"result": "0000", "message": (payload + b"." + signature).decode()}


OPERATIONS: dict[str, Callable[[dict[str, str]], object]] = {
    "friendlist": friendlist,
    "messagelist": messagelist,
    "search": search,
    "add": add,
    "dealMessage": deal_message,
    "send_gift": send_gift,
    "hash": hash_only,
}


def application(environ: dict, start_response: Callable) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    operation = next((OPERATIONS[name] for name in OPERATIONS if form.get(name) == "1"), log_in)
    try:
        try:
            response = operation(form)
        except psycopg2.errors.UniqueViolation:
            # Two friend requests in the same microsecond: livebackend repeats such a call too.
            response = operation(form)
    except OperationFailed as error:
        response = {"result": str(error), "message": None}
    content = orjson.dumps(response)
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(content))),
        ("Cache-Control", "no-store"),
    ]
    start_response("200 OK", headers)
    return [content]
