"""Tests that send random request sequences and compare responses with a model."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.api import PASSWORD, ApiClient, ApiResponse, App, UserClient
from tests.support.database_state import DatabaseState

PHONES = [f"1380000000{n}" for n in range(5)]

phones = st.sampled_from(PHONES)
request_ids = st.sampled_from(["", "r1", "r2"])


@dataclass
class Model:
    """Expected state of the application."""

    coins: dict[str, int] = field(default_factory=dict)
    friends: set[frozenset[str]] = field(default_factory=set)
    # The sender and the recipient of each pending friend request.
    pending_requests: set[tuple[str, str]] = field(default_factory=set)
    titles: dict[str, str | None] = field(default_factory=dict)
    streams: dict[str, str] = field(default_factory=dict)
    refilled_coins: int = 0
    # The kind and parameters of each executed refill or gift, by the user's phone and request id.
    executed_requests: dict[tuple[str, str], tuple[object, ...]] = field(default_factory=dict)


class RequestSequence(RuleBasedStateMachine):
    """Each rule sends one request and checks the response against the model."""

    users = Bundle("users")

    def __init__(self, app: App, database_state: DatabaseState) -> None:
        super().__init__()
        self.api, self.database_state, self.model = ApiClient(app), database_state, Model()
        self.logged_in: dict[str, UserClient] = {}

    @initialize()
    def delete_all_rows(self) -> None:
        self.database_state.empty()

    @rule(target=users, phone=phones)
    def register(self, phone: str) -> str:
        response = self.api.post("/register", register="1", userId=phone, password=PASSWORD)
        if phone in self.model.coins:
            self.check_result(response, "0006")
            return phone
        self.model.coins[phone] = 0
        self.log_in(phone)
        return phone

    @rule(phone=users)
    def log_in(self, phone: str) -> None:
        self.logged_in[phone] = self.api.log_in(phone)

    @rule(me=users, other_phone=phones)
    def send_friend_request(self, me: str, other_phone: str) -> None:
        response = self.logged_in[me].post("/friend", add="1", userId=other_phone)
        if other_phone not in self.model.coins:
            self.check_result(response, "0007")
        elif other_phone == me:
            self.check_result(response, "0006")
        elif frozenset((me, other_phone)) in self.model.friends:
            self.check_result(response, "0010")
        else:
            self.check_result(response, "0000")
            if (other_phone, me) in self.model.pending_requests:
                self.befriend(other_phone, me)
            else:
                self.model.pending_requests.add((me, other_phone))

    @rule(me=users, index=st.integers(0, 20), behaviour=st.sampled_from(["accept", "delete"]))
    def deal_with_message(self, me: str, index: int, behaviour: str) -> None:
        messages = self.logged_in[me].messages()
        if not messages:
            return
        message = messages[index % len(messages)]
        other_phone = message["userId"]
        response = self.logged_in[me].deal_message(message, behaviour)
        is_open = message["flag"] == 0 and (other_phone, me) in self.model.pending_requests
        if behaviour == "delete":
            self.check_result(response, "0000")
            if is_open:
                self.model.pending_requests.discard((other_phone, me))
        elif is_open:
            self.check_result(response, "0000")
            self.befriend(other_phone, me)
        elif message["flag"] == 1 and frozenset((me, other_phone)) in self.model.friends:
            self.check_result(response, "0000")
        else:
            self.check_result(response, "0006")

    @rule(me=users, other_phone=phones)
    def unfriend(self, me: str, other_phone: str) -> None:
        response = self.logged_in[me].post("/friend", delete="1", userId=other_phone)
        friend_pair = frozenset((me, other_phone))
        self.check_result(response, "0000" if friend_pair in self.model.friends else "0006")
        self.model.friends.discard(friend_pair)

    @rule(me=users, money=st.sampled_from(["10", "50", "100", "20"]), request_id=request_ids)
    def refill(self, me: str, money: str, request_id: str) -> None:
        response = self.logged_in[me].refill(money, requestId=request_id)
        if money == "20":
            self.check_result(response, "0013")
        elif self.is_new_request(me, request_id, ("refill", money), response):
            self.check_result(response, "0000")
            self.model.coins[me] += int(money)
            self.model.refilled_coins += int(money)
            self.record_request(me, request_id, ("refill", money))

    @rule(me=users, host=phones, value=st.integers(0, 60), request_id=request_ids)
    def send_gift(self, me: str, host: str, value: int, request_id: str) -> None:
        gift = {"object": host, "value": str(value), "description": "a rose"}
        response = self.logged_in[me].post("/golden", send_gift="1", requestId=request_id, **gift)
        if not value or host == me or host not in self.model.coins:
            self.check_result(response, "0013")
        elif self.is_new_request(me, request_id, ("gift", host, value), response):
            if value > self.model.coins[me]:
                self.check_result(response, "0013")
                return
            self.check_result(response, "0000")
            self.model.coins[me] -= value
            self.model.coins[host] += value
            self.record_request(me, request_id, ("gift", host, value))

    @rule(me=users, title=st.sampled_from(["", "one", "two"]))
    def go_live(self, me: str, title: str) -> None:
        response = self.logged_in[me].go_live(title=title)
        self.check_result(response, "0000")
        if me in self.model.streams:
            assert response.message == self.model.streams[me]
        else:
            assert response.message not in self.model.streams.values()
            self.model.streams[me] = response.message
            self.model.titles[me] = title or None

    @rule(me=users)
    def leave(self, me: str) -> None:
        response = self.logged_in[me].post("/room", leave="1")
        self.check_result(response, "0000" if me in self.model.streams else "0009")
        self.model.streams.pop(me, None)

    @invariant()
    def coins_are_conserved(self) -> None:
        balances = self.database_state.balances()
        assert balances == self.model.coins
        assert sum(balances.values()) == self.model.refilled_coins

    @invariant()
    def user_has_at_most_one_open_room(self) -> None:
        host_account_ids = [
            row["account_id"] for row in self.database_state.rows("rooms") if row["state"] == "open"
        ]
        assert len(host_account_ids) == len(set(host_account_ids)) == len(self.model.streams)

    @invariant()
    def friendships_are_symmetric_and_friend_lists_show_live_status(self) -> None:
        friend_pairs = set()
        for me, user in self.logged_in.items():
            friends = user.friends()
            friend_pairs |= {frozenset((me, friend["userId"])) for friend in friends}
            live_flags = [friend["userId"] in self.model.streams for friend in friends]
            assert live_flags == sorted(live_flags, reverse=True)
            for friend, is_live in zip(friends, live_flags, strict=True):
                assert friend["liveStatus"] == ("on" if is_live else "off")
                title = self.model.titles[friend["userId"]] if is_live else None
                assert friend["title"] == title
        assert friend_pairs == self.model.friends
        assert len(self.database_state.rows("friendships")) == 2 * len(friend_pairs)

    def check_result(self, response: ApiResponse, result: str) -> None:
        assert response.result == result, response

    def befriend(self, phone: str, other_phone: str) -> None:
        self.model.friends.add(frozenset((phone, other_phone)))
        self.model.pending_requests -= {(phone, other_phone), (other_phone, phone)}

    def is_new_request(
        self, me: str, request_id: str, parameters: tuple[object, ...], response: ApiResponse
    ) -> bool:
        """Return whether a request id is new; check the response to a reused id."""
        earlier_parameters = self.model.executed_requests.get((me, request_id))
        if earlier_parameters is None:
            return True
        self.check_result(response, "0000" if earlier_parameters == parameters else "0013")
        return False

    def record_request(self, me: str, request_id: str, parameters: tuple[object, ...]) -> None:
        if request_id:
            self.model.executed_requests[me, request_id] = parameters


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_random_requests_match_the_model(app: App, database_state: DatabaseState) -> None:
    run_state_machine_as_test(
        # The function accepts any factory, but is typed to accept only a class.
        lambda: RequestSequence(app, database_state),  # type: ignore[arg-type]
        settings=settings(max_examples=60, stateful_step_count=40),
    )
