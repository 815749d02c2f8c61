"""A request that any rate limit of its operation refuses counts against no limit."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from livebackend.api.operation_declaration import HASH_LIMITS, UNVERIFIED_LIMITS
from livebackend.config.settings import Settings
from livebackend.services.login_tokens import CurrentUser
from tests.support.api import PASSWORD, ApiClient, ApiResponse, App, PhoneClient, UserClient
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.pictures import PNG, upload
from tools.generate_client import declared_operations

MAXIMUM = 5
UNKNOWN_PHONE = "13900000009"
IPV6_CLIENT = {"REMOTE_ADDR": "2001:db8::1"}
OPERATIONS = {operation.name: operation for operation in declared_operations()}


@dataclass(frozen=True)
class Users:
    """Two users and a client without a login, in an application with low limits."""

    ann: UserClient
    ben: UserClient

    @property
    def anonymous(self) -> ApiClient:
        return ApiClient(self.ann.app)

    @property
    def phone(self) -> PhoneClient:
        return PhoneClient(self.ann.app, UNKNOWN_PHONE)

    def log_out(self) -> ApiResponse:
        """Log out with a new token of Ann; the token of `ann` stays valid."""
        services = self.ann.app.registry.services
        with services.database.engine.connect() as connection:
            claims = services.login_tokens.read(self.ann.token)
            account = services.login_tokens.identify(connection, claims)
        token = services.login_tokens.issue(CurrentUser(*account))
        return self.ann.post("/log", logout="1", token=token)

    def to_user(self, path: str, operation: str, phone: str, **params: str) -> ApiResponse:
        return self.ann.post(path, **{operation: "1", "userId": phone, "object": phone}, **params)

    def send_gift(self, phone: str, **params: str) -> ApiResponse:
        gift = {"object": phone, "value": "1", "description": "x", **params}
        return self.ann.post("/golden", send_gift="1", **gift)

    def deal_message(self) -> ApiResponse:
        ids = {"verifyId": f"{self.ann.phone},1", "objectId": f"{self.ben.phone},1"}
        return self.to_user("/friend", "dealMessage", self.ben.phone, behaviour="accept", **ids)

    def register(self) -> ApiResponse:
        """Send a registration that fails after the hash: the picture is unknown."""
        form = {"userId": UNKNOWN_PHONE, "password": PASSWORD, "headImage": "unknown"}
        return self.anonymous.post("/register", register="1", **form)

    def request_reset_code(self) -> tuple[str, str]:
        """Return the ticket and the code of a password reset of Ben."""
        phone = PhoneClient(self.ann.app, self.ben.phone)
        ticket = phone.post("/log", forgot="1", userId=phone.number).message
        return str(ticket), phone.received_codes[-1]

    def reset_password(self, ticket_and_code: tuple[str, str]) -> ApiResponse:
        ticket, code = ticket_and_code
        form = {"userId": self.ben.phone, "code_v": ticket, "code": code, "password": PASSWORD}
        return self.anonymous.post("/log", reset="1", **form)

    def change_password(self, old_password: str) -> ApiResponse:
        return self.ann.post("/log", change="1", oldPassword=old_password, password="harbour-43")

    def log_in(self, password: str) -> ApiResponse:
        return self.anonymous.post("/log", userId=self.ann.phone, password=password)

    def remove(self, password: str) -> ApiResponse:
        return self.ann.post("/register", remove="1", password=password)


Send = Callable[[Users], ApiResponse]

# By operation: a request that would succeed or change something if no limit refused it.
REQUESTS: dict[str, Send] = {
    "send_code": lambda users: users.anonymous.post_form(
        "/register", {"token": UNKNOWN_PHONE}, extra_environ=IPV6_CLIENT
    ),
    "verify_code": lambda users: users.anonymous.post("/register", code_v="x", code="1234"),
    "register": Users.register,
    "upload": lambda users: upload(users.anonymous, PNG),
    "log_in": lambda users: users.log_in(PASSWORD),
    "live": lambda users: users.ann.go_live(),
    "leave": lambda users: users.ann.post("/room", leave="1"),
    "heartbeat": lambda users: users.ann.post("/room", heartbeat="1"),
    "search": lambda users: users.to_user("/friend", "search", users.ben.phone),
    "add": lambda users: users.to_user("/friend", "add", users.ben.phone),
    "deal_message": Users.deal_message,
    "unfriend": lambda users: users.to_user("/friend", "delete", users.ben.phone),
    "block": lambda users: users.to_user("/friend", "block", users.ben.phone),
    "unblock": lambda users: users.to_user("/friend", "unblock", users.ben.phone),
    "refill": lambda users: users.ann.refill("10"),
    "send_gift": lambda users: users.send_gift(users.ben.phone),
    "ranking": lambda users: users.to_user("/golden", "ranking", users.ben.phone),
    "log_out": Users.log_out,
    "change_password": lambda users: users.change_password(PASSWORD),
    "forgot_password": lambda users: users.anonymous.post_form(
        "/log", {"forgot": "1", "userId": users.ann.phone}, extra_environ=IPV6_CLIENT
    ),
    "reset_password": lambda users: users.anonymous.post(
        "/log", reset="1", userId=users.ann.phone, code_v="x", code="x", password="harbour-43"
    ),
    "change_profile": lambda users: users.ann.post("/register", profile="1", nickname="x"),
    "remove": lambda users: users.remove(PASSWORD),
    "event_ticket": lambda users: users.ann.post("/events", ticket="1"),
}


def retry_refill(users: Users) -> ApiResponse:
    users.ann.refill("10", requestId="r")
    return users.ann.refill("10", requestId="r")


def retry_gift(users: Users) -> ApiResponse:
    """Send a gift, and retry it after the limit of gifts is reached."""
    for _ in range(MAXIMUM + 1):
        response = users.send_gift(users.ben.phone, requestId="r")
        assert response.result == "0000", response
    return response


# By operation and limit: a first request that the limit counts, if not the request above.
FIRST_REQUESTS: dict[tuple[str, str], Send] = {
    ("log_in", "login_account"): lambda users: users.log_in("wrong"),
    ("log_in", "login_address"): lambda users: users.log_in("wrong"),
    ("log_in", "login_new_addresses"): lambda users: users.log_in("wrong"),
    ("search", "unknown_users"): lambda users: users.to_user("/friend", "search", UNKNOWN_PHONE),
    ("add", "unknown_users"): lambda users: users.to_user("/friend", "add", UNKNOWN_PHONE),
    ("block", "unknown_users"): lambda users: users.to_user("/friend", "block", UNKNOWN_PHONE),
    ("unblock", "unknown_users"): lambda users: users.to_user("/friend", "unblock", UNKNOWN_PHONE),
    ("ranking", "unknown_users"): lambda users: users.to_user("/golden", "ranking", UNKNOWN_PHONE),
    ("send_gift", "unknown_users"): lambda users: users.send_gift(UNKNOWN_PHONE),
    ("refill", "refill_retries"): retry_refill,
    ("send_gift", "gift_retries"): retry_gift,
    **{
        ("reset_password", limit): lambda users: users.reset_password(users.request_reset_code())
        for limit in HASH_LIMITS
    },
    **{
        ("change_password", limit): lambda users: users.change_password("wrong")
        for limit in OPERATIONS["change_password"].all_limits
    },
    **{
        ("remove", limit): lambda users: users.remove("wrong")
        for limit in OPERATIONS["remove"].all_limits
    },
}
# Retries of requests that were executed.
RETRIES: dict[tuple[str, str], Send] = {
    ("refill", "refill_retries"): lambda users: users.ann.refill("10", requestId="r"),
    ("send_gift", "gift_retries"): lambda users: users.send_gift(users.ben.phone, requestId="r"),
}
# Operations that check a password. Their error reason hides the limit.
PASSWORD_OPERATIONS = {"log_in", "change_password", "remove"}


def counts(database_state: DatabaseState) -> dict[str, int]:
    return {
        row["key"]: sum(row["counts"])
        for row in database_state.rows("rate_limit_counters")
        if row["counts"]
    }


@pytest.fixture
def users(
    new_hardened_app: Callable[..., App],
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
) -> Users:
    limits: dict[str, Any] = {
        name.replace(".", "__"): f"{MAXIMUM} per hour"
        for name in Settings.fields_by_name()
        if name.startswith("limits.")
    }
    # The application has the gateways of the fixture `services`, which records their calls.
    app = new_hardened_app(
        register__verified_phone="optional",
        streams__gateway="tests.support.fake_gateways.RecordingStreams",
        **limits,
    )
    ann.refill("100")
    database_state.execute("DELETE FROM rate_limit_counters; DELETE FROM login_addresses")
    return Users(ann.with_app(app), ben.with_app(app))


@pytest.mark.parametrize(
    ("operation", "limit"),
    [
        pytest.param(operation.name, limit, id=f"{operation.name}-{limit}")
        for operation in OPERATIONS.values()
        for limit in operation.all_limits
        # test_registration_by_strangers.py has the tests of these limits.
        if limit not in UNVERIFIED_LIMITS
    ],
)
def test_refused_request_counts_against_no_limit_and_changes_nothing(
    operation: str,
    limit: str,
    users: Users,
    database_state: DatabaseState,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    case = (operation, limit)
    FIRST_REQUESTS.get(case, REQUESTS[operation])(users)
    send = RETRIES.get(case, REQUESTS[operation])
    if operation == "reset_password" and limit in HASH_LIMITS:
        send = partial(Users.reset_password, ticket_and_code=users.request_reset_code())
    database_state.execute(
        f"UPDATE rate_limit_counters SET times = ARRAY[now()], counts = ARRAY[{MAXIMUM}]"
        f" WHERE key LIKE '{limit}/%'"
    )
    counts_before = counts(database_state)
    assert [key for key in counts_before if key.startswith(f"{limit}/")], "the limit counts nothing"
    with assert_no_side_effects():
        response = send(users)
    if operation in PASSWORD_OPERATIONS:
        assert response.result == "0008"
    else:
        assert response.error == "request; reason=rate_limited"
        assert int(response.headers["Retry-After"]) > 3500
    assert counts(database_state) == counts_before


def test_every_request_of_the_matrix_succeeds_or_is_counted_without_a_limit() -> None:
    operations_with_limits = {name for name, declared in OPERATIONS.items() if declared.all_limits}
    assert REQUESTS.keys() == operations_with_limits
