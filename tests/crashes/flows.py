"""Flows, users and the payment provider of the crash tests."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import orjson
from sqlalchemy import Connection, text

from livebackend.database.engine import Database
from livebackend.ledger.coin_accounts import open_account
from livebackend.ledger.transfers import CoinAccount, TransferKind
from livebackend.services.login_tokens import CurrentUser, LoginTokens
from livebackend_client import (
    ApiError,
    Client,
    ErrorReason,
    OperationRefused,
    ServerUnavailable,
)
from tests.crashes.server import RemotePayments, payment_of
from tests.support.ledger_helpers import LedgerFixture

# Seconds during which a client or the payment provider retries a request.
RETRY_FOR_S = 30

_INSERT_ACCOUNT = text(
    "INSERT INTO accounts (phone, password_hash) VALUES (:phone, 'x') RETURNING id"
)
_INSERT_FRIENDSHIP = text(
    "INSERT INTO friendships (account_id, friend_id) VALUES (:a, :b), (:b, :a)"
)
_MAKE_ORDERS_DUE = text("UPDATE payment_orders SET next_query_at = now() WHERE state = 'pending'")
_SELECT_STATE = text(
    """
    SELECT (SELECT sum(amount)::bigint FROM coin_slots WHERE coin_account_id = :coins_id) AS coins,
        (SELECT count(*) FROM transfers WHERE actor_id = :coins_id AND kind = :kind) AS transfers,
        (SELECT count(*) FROM payment_orders WHERE account_id = :id AND state = 'paid') AS paid,
        (SELECT count(*) FROM friendships WHERE account_id = :id) AS friends
    """
)


@dataclass(frozen=True)
class User:
    """A user's account id, coin account id, phone number and login token."""

    id: int
    coins_id: int
    phone: str
    token: str


class Users:
    """Creates two users, who are friends, for each run."""

    def __init__(self, database: Database, secret: str) -> None:
        self._database = database
        self._ledger = LedgerFixture(database)
        self._tokens = LoginTokens([secret], clock=time.time)
        self._number = 0

    def create_two(self, coins: int) -> tuple[User, User]:
        """Create and return two friends; the first one has the balance `coins`."""

        def create_friends(connection: Connection) -> tuple[User, User]:
            first_user, second_user = self._create_user(connection), self._create_user(connection)
            connection.execute(_INSERT_FRIENDSHIP, {"a": first_user.id, "b": second_user.id})
            self._ledger.set_up_balances(connection, {CoinAccount(first_user.coins_id): {0: coins}})
            return first_user, second_user

        return self._database.run(create_friends)

    def state(self, user: User, *, transfer_kind: int) -> Any:
        values = {"id": user.id, "coins_id": user.coins_id, "kind": int(transfer_kind)}
        return self._database.run(
            lambda connection: connection.execute(_SELECT_STATE, values).one()
        )

    def make_orders_due(self) -> None:
        self._database.run(lambda connection: connection.execute(_MAKE_ORDERS_DUE))

    def _create_user(self, connection: Connection) -> User:
        self._number += 1
        phone = f"{13900000000 + self._number}"
        account_id = connection.execute(_INSERT_ACCOUNT, {"phone": phone}).scalar_one()
        token = self._tokens.issue(CurrentUser(account_id, phone, 1), lifetime_s=3600)
        return User(account_id, open_account(connection, account_id), phone, token)


class Provider:
    """A payment provider at which every order is paid immediately."""

    def __init__(self, signer: RemotePayments) -> None:
        self._signer = signer
        self.orders: dict[str, int] = {}
        self._acknowledged: set[str] = set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fields = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = orjson.dumps(provider.respond(self.path, **fields))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def respond(self, path: str, *, order_id: str, fen: int) -> dict[str, object]:
        if path == "/place":
            self.orders[order_id] = fen
            return {"orderId": order_id}
        return {"paid": order_id in self.orders}

    def notify(self, http_client: httpx.Client, address: str) -> None:
        """Notify the server of each unacknowledged payment; retry until it responds 204."""
        for order_id in self.orders.keys() - self._acknowledged:
            fen = self.orders[order_id]
            deadline = time.monotonic() + RETRY_FOR_S
            while not self._notify_once(http_client, address, order_id, fen):
                assert time.monotonic() < deadline, (
                    f"the server did not acknowledge the notification of order {order_id}"
                )
                time.sleep(0.02)
            self._acknowledged.add(order_id)

    def _notify_once(
        self, http_client: httpx.Client, address: str, order_id: str, fen: int
    ) -> bool:
        """Send a notification; return whether the server acknowledged it."""
        headers, body = self._signer.notification(payment_of(order_id, fen))
        try:
            response = http_client.post(
                f"{address}/payments", content=body, headers=headers, timeout=10
            )
        except httpx.RequestError:
            return False
        assert response.status_code in (204, 503), response.status_code
        return response.status_code == 204

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def call_with_retries(client: Client, call: Callable[..., object], **parameters: Any) -> None:
    """Call an operation and retry by the documented rules.

    A retry of a gift or refill has the request id of the first attempt. If "not_friends" follows an
    unknown outcome, an earlier attempt has already ended the friendship.
    """
    deadline = time.monotonic() + RETRY_FOR_S
    is_outcome_unknown = False
    last_error: Exception | None = None
    while time.monotonic() < deadline:
        try:
            call(client, **parameters)
        except ApiError as error:
            if (
                is_outcome_unknown
                and isinstance(error, OperationRefused)
                and error.reason == ErrorReason.NOT_FRIENDS
            ):
                return
            if _is_final(error):
                raise
            last_error = error
            is_outcome_unknown = is_outcome_unknown or error.outcome_unknown
            if error.request_id:
                parameters["request_id"] = error.request_id
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"no retry succeeded within {RETRY_FOR_S} s") from last_error


def _is_final(error: ApiError) -> bool:
    """Return whether the server rejected the request, and a retry cannot help."""
    return (
        isinstance(error, OperationRefused)
        and not isinstance(error, ServerUnavailable)
        and error.reason != ErrorReason.LEDGER_BUSY
    )


class Flow:
    """The requests of one run, and the state that is expected after them."""

    def __init__(self, users: Users, provider: Provider) -> None:
        self.users = users
        self.provider = provider

    def run(self, client: Callable[[User], Client], http_client: httpx.Client) -> list[str]:
        """Send the requests; return the differences from the expected state."""
        raise NotImplementedError


class GiveOnce(Flow):
    """A gift of 30 coins."""

    def run(self, client: Callable[[User], Client], http_client: httpx.Client) -> list[str]:
        sender, host = self.users.create_two(coins=100)
        call_with_retries(
            client(sender), Client.send_gift, value=30, object=host.phone, description="rose"
        )
        sender_state, host_state = (
            self.users.state(user, transfer_kind=TransferKind.GIFT) for user in (sender, host)
        )
        return differences(
            coins=(sender_state.coins, 70), gifts=(sender_state.transfers, 1)
        ) + differences(received=(host_state.coins, 30))


class BuyOnce(Flow):
    """An order of 10 coins and the provider's notification of its payment."""

    def run(self, client: Callable[[User], Client], http_client: httpx.Client) -> list[str]:
        buyer, _ = self.users.create_two(coins=0)
        buyer_client = client(buyer)
        call_with_retries(buyer_client, Client.refill, money=10)
        self.provider.notify(http_client, buyer_client.address)
        state = self.users.state(buyer, transfer_kind=TransferKind.REFILL)
        return differences(
            coins=(state.coins, 10), refills=(state.transfers, 1), paid=(state.paid, 1)
        )


class UnfriendOnce(Flow):
    """The end of a friendship."""

    def run(self, client: Callable[[User], Client], http_client: httpx.Client) -> list[str]:
        user, friend = self.users.create_two(coins=0)
        call_with_retries(client(user), Client.unfriend, user_id=friend.phone)
        return differences(
            friends=(self.users.state(user, transfer_kind=TransferKind.GIFT).friends, 0)
        )


def differences(**values: tuple[object, object]) -> list[str]:
    """Return a text for each value whose pair (actual, expected) differs."""
    return [
        f"{name} is {actual} instead of {expected}"
        for name, (actual, expected) in values.items()
        if actual != expected
    ]
