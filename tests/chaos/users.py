"""Creates the users of the load; the responses to their requests are known."""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, text

from livebackend.database.engine import Database
from livebackend.ledger.coin_accounts import open_account
from livebackend.ledger.transfers import CoinAccount
from livebackend.services.login_tokens import CurrentUser, LoginTokens
from livebackend.services.password_hashing import PasswordHasher
from tests.support.ledger_helpers import LedgerFixture

PASSWORD = "harbour-42"
FRIEND_COUNT, MESSAGE_COUNT = 5, 3
HOST_COUNT = 8
_COINS = 1_000_000
_TOKEN_LIFETIME_S = 7 * 86_400
_FIRST_PHONE = 13_800_000_000

_INSERT_ACCOUNT = text(
    "INSERT INTO accounts (phone, password_hash, nickname)"
    " VALUES (:phone, :password_hash, :nickname) RETURNING id"
)
_INSERT_FRIENDSHIP = text(
    "INSERT INTO friendships (account_id, friend_id) VALUES (:a, :b), (:b, :a)"
)
_INSERT_MESSAGE = text(
    "INSERT INTO friend_requests (applicant_id, addressee_id, state, sent_at_us)"
    " VALUES (:applicant, :addressee, 'open', :sent_at_us)"
)


@dataclass(frozen=True)
class Account:
    """An account, its coin account, and its profile."""

    id: int
    coins_id: int
    phone: str
    nickname: str


@dataclass(frozen=True)
class User:
    """The user of one client; `friends` are in the order of the friend list.

    No other client changes the user, so all its responses are known.
    """

    account: Account
    token: str
    friends: tuple[Account, ...]
    applicants: tuple[Account, ...]


class Users:
    """The users of the load, and the hosts that receive their gifts."""

    def __init__(self, database: Database, *, count: int, secret: str, pepper: str) -> None:
        self.tokens = LoginTokens([secret], clock=time.time)
        self._password_hash = PasswordHasher(pepper, cost=4).hash(PASSWORD)
        self._ledger = LedgerFixture(database)
        self._account_count = 0
        self.hosts: list[Account] = []
        self.users: list[User] = []
        database.run(lambda connection: self._create(connection, count))

    def _create(self, connection: Connection, count: int) -> None:
        self.hosts = [self._account(connection, f"host {n}") for n in range(HOST_COUNT)]
        static_accounts = [self._account(connection, f"friend {n:02}") for n in range(20)]
        for number in range(count):
            account = self._account(connection, f"user {number}")
            coins = {CoinAccount(account.coins_id): {0: _COINS}}
            self._ledger.set_up_balances(connection, coins)
            chosen = [
                static_accounts[(number + n) % 20] for n in range(FRIEND_COUNT + MESSAGE_COUNT)
            ]
            friends, applicants = chosen[:FRIEND_COUNT], chosen[FRIEND_COUNT:]
            for friend in friends:
                connection.execute(_INSERT_FRIENDSHIP, {"a": account.id, "b": friend.id})
            for n, applicant in enumerate(applicants):
                connection.execute(
                    _INSERT_MESSAGE,
                    {
                        "applicant": applicant.id,
                        "addressee": account.id,
                        "sent_at_us": 1_790_000_000_000_000 + 100 * number + n,
                    },
                )
            current_user = CurrentUser(account.id, account.phone, 1)
            self.users.append(
                User(
                    account,
                    self.tokens.issue(current_user, lifetime_s=_TOKEN_LIFETIME_S),
                    tuple(sorted(friends, key=lambda friend: friend.nickname)),
                    tuple(applicants[::-1]),
                )
            )

    def _account(self, connection: Connection, nickname: str) -> Account:
        self._account_count += 1
        phone = str(_FIRST_PHONE + self._account_count)
        values = {"phone": phone, "password_hash": self._password_hash, "nickname": nickname}
        account_id = connection.execute(_INSERT_ACCOUNT, values).scalar_one()
        return Account(account_id, open_account(connection, account_id), phone, nickname)
