"""Baseline: a WSGI callable that executes the operations without any framework.

The callable sends livebackend's SQL statements through psycopg2, prepared once per connection,
verifies the login token, counts requests against the rate limits, and creates the same JSON with
orjson. The CPU time that livebackend needs in addition is the cost of the framework and validation.
"""

import base64
import hmac
import os
import secrets
import threading
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

from bench import baseline_statements as sql
from bench import fill_database
from livebackend.core.cpu_count import available_cpus
from livebackend.services.machine_semaphore import MachineSemaphore

SECRET = os.environ["LIVEBACKEND_SECRETS"]
PEPPER = os.environ["LIVEBACKEND_PASSWORDS_PEPPER"].encode()
DATABASE_URL = make_url(os.environ["LIVEBACKEND_DATABASE_URL"])
MAX_CONNECTIONS = 10
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
# Signing key of login tokens, derived from the secret as itsdangerous derives it.
SIGNING_KEY = sha256(b"livebackend.login" + b"signer" + SECRET.encode()).digest()
# The number of slots that livebackend spreads a host's gifts over.
CREDIT_SLOT = 1 + secrets.randbelow(16)
# All workers together hash as many passwords at once as livebackend does, each worker one.
HASHES_AT_ONCE = max(1, available_cpus() - 1)
hash_semaphore = MachineSemaphore(
    Path(os.environ["LIVEBACKEND_DATA_DIR"]) / "hashing", HASHES_AT_ONCE
)
hash_lock = threading.Lock()


class OperationFailed(Exception):
    """An operation failed; the text of the exception is the result code."""


class Pool:
    """A pool of connections in autocommit mode, which have prepared all statements."""

    def __init__(self, *, synchronous_commit: str) -> None:
        # The settings that livebackend's connections have, except for the time limits.
        self.options = f"-c random_page_cost=1.1 -c synchronous_commit={synchronous_commit}"
        self.idle: LifoQueue[psycopg2.extensions.connection] = LifoQueue()
        self.connection_numbers = count(1)

    @contextmanager
    def cursor(self) -> "Iterator[psycopg2.extensions.cursor]":
        if self.idle.empty() and next(self.connection_numbers) <= MAX_CONNECTIONS:
            connection = self.connect()
        else:
            connection = self.idle.get(timeout=5)
        try:
            with connection.cursor() as db:
                yield db
        finally:
            self.idle.put(connection)

    def connect(self) -> "psycopg2.extensions.connection":
        connection = psycopg2.connect(
            host=DATABASE_URL.query["host"],
            port=DATABASE_URL.query["port"],
            user=DATABASE_URL.username,
            dbname=DATABASE_URL.database,
            options=self.options,
        )
        connection.autocommit = True
        with connection.cursor() as db:
            for statement in sql.Statement.all:
                db.execute(statement.prepare)
        return connection


pool = Pool(synchronous_commit="on")
# As in livebackend, no count of a rate limit waits for the disk.
rate_limit_pool = Pool(synchronous_commit="off")


@contextmanager
def transaction() -> "Iterator[psycopg2.extensions.cursor]":
    with pool.cursor() as db:
        db.execute("BEGIN")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def base64url_decode(encoded: str) -> bytes:
    return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def verified_claims(form: dict[str, str]) -> dict[str, object]:
    token = form.get("token")
    if not token:
        raise OperationFailed("0012")
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


def identify(db: "psycopg2.extensions.cursor", claims: dict[str, object]) -> int:
    db.execute(sql.TOKEN_OWNER.execute, claims)
    row = db.fetchone()
    if not row:
        raise OperationFailed("0012")
    return int(row[0])


def apply_rate_limit(
    name: str, account: int, *, checks_unknown_users: bool = False, error_code: str = "0006"
) -> None:
    names = [name, "unknown_users"] if checks_unknown_users else [name]
    rules = {
        "keys": [f"{limit}/3600/{account}" for limit in names],
        "maximums": [1_000_000] * len(names),
        "windows_s": [3600] * len(names),
        "counted": [limit == name for limit in names],
    }
    with rate_limit_pool.cursor() as db:
        db.execute(sql.COUNT_REQUEST.execute, rules)
        if db.fetchone():
            raise OperationFailed(error_code)


def friendlist(form: dict[str, str]) -> object:
    claims = verified_claims(form)
    with pool.cursor() as db:
        db.execute(sql.FRIEND_LIST.execute, {**claims, "limit": 5000})
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
    claims = verified_claims(form)
    with pool.cursor() as db:
        db.execute(sql.MESSAGE_LIST.execute, {**claims, "limit": 500})
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
    claims = verified_claims(form)
    with pool.cursor() as db:
        own_id = identify(db, claims)
        apply_rate_limit("search", own_id, checks_unknown_users=True)
        db.execute(sql.FIND_ACCOUNT.execute, {"me": own_id, "phone": form["userId"]})
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
    db.execute(sql.LOCK_ACCOUNTS.execute, {"me": own_id, "user_id": phone})
    return next(account_id for account_id, row_phone in db.fetchall() if row_phone == phone)


def find_relationship(db: "psycopg2.extensions.cursor", own_id: int, other_id: int) -> tuple:
    db.execute(sql.RELATIONSHIP.execute, {"me": own_id, "other": other_id})
    return db.fetchone()


def become_friends(
    db: "psycopg2.extensions.cursor", own_id: int, other_id: int, request_id: int
) -> None:
    db.execute(sql.ACCEPT_REQUEST.execute, {"id": request_id})
    db.execute(sql.INSERT_FRIENDSHIPS.execute, {"me": own_id, "other": other_id})


def add(form: dict[str, str]) -> object:
    claims = verified_claims(form)
    with transaction() as db:
        own_id = identify(db, claims)
        apply_rate_limit("friend_requests", own_id, checks_unknown_users=True)
        other_id = lock_accounts(db, own_id, form["userId"])
        are_friends, own_request_id, their_request_id, *_ = find_relationship(db, own_id, other_id)
        if are_friends:
            raise OperationFailed("0010")
        if their_request_id:
            become_friends(db, own_id, other_id, their_request_id)
        elif not own_request_id:
            db.execute(sql.INSERT_REQUEST.execute, {"me": own_id, "other": other_id})
    return {"result": "0000", "message": None}


def deal_message(form: dict[str, str]) -> object:
    claims = verified_claims(form)
    with transaction() as db:
        own_id = identify(db, claims)
        apply_rate_limit("friend_changes", own_id)
        other_id = lock_accounts(db, own_id, form["userId"])
        first, second = (int(form[name].partition(",")[2]) for name in ("verifyId", "objectId"))
        db.execute(sql.REQUESTS_BY_TIME.execute, {"first": first, "second": second})
        db.fetchall()
        _, _, their_request_id, *_ = find_relationship(db, own_id, other_id)
        if not their_request_id:
            raise OperationFailed("0006")
        become_friends(db, own_id, other_id, their_request_id)
    return {"result": "0000", "message": None}


def send_gift(form: dict[str, str]) -> object:
    coins = int(form["value"])
    claims = verified_claims(form)
    with pool.cursor() as db:
        db.execute(sql.GIFT_ACCOUNTS.execute, {**claims, "user_id": form["object"]})
        debit, credit, host_id, room_id = db.fetchone()
    apply_rate_limit("gifts", debit, checks_unknown_users=True, error_code="0013")
    transfer = {"debit": debit, "credit": credit, "coins": coins, "slot": CREDIT_SLOT}
    with transaction() as db:
        db.execute(sql.LOCK_COINS.execute, transfer)
        if db.fetchone()[0] < coins:
            raise OperationFailed("0013")
        db.execute(sql.CREDIT.execute, transfer)
        db.execute(sql.DEBIT.execute, transfer)
        db.execute(sql.INSERT_TRANSFER.execute, {**transfer, "request_id": str(uuid.uuid4())})
        gift = {"host_id": host_id, "room_id": room_id, "description": form["description"]}
        db.execute(sql.INSERT_GIFT.execute, {**gift, "transfer_id": db.fetchone()[0]})
    return {"result": "0000", "message": None}


def password_digest(password: str) -> bytes:
    return base64.b64encode(hmac.digest(PEPPER, password.encode(), "sha384"))


def check_password(password: str, password_hash: str) -> None:
    with hash_lock, hash_semaphore.acquire(0, timeout_s=60):
        if not bcrypt.checkpw(password_digest(password), password_hash.encode()):
            raise OperationFailed("0008")


PASSWORD_HASH = bcrypt.hashpw(password_digest(fill_database.PASSWORD), bcrypt.gensalt(12)).decode()


def hash_only(form: dict[str, str]) -> object:
    check_password(form["password"], PASSWORD_HASH)
    return {"result": "0000", "message": None}


def log_in(form: dict[str, str]) -> object:
    with pool.cursor() as db:
        db.execute(sql.LOGIN_ACCOUNT.execute, {"phone": form["userId"]})
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
