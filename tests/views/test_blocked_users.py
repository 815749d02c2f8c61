"""Tests of blocking and unblocking users."""

from collections.abc import Callable
from functools import partial

import pytest

from livebackend.container import Services
from tests.support.api import PASSWORD, ApiClient, App, UserClient, run_concurrently
from tests.support.database_state import DatabaseState


def block(user: UserClient, other_user: UserClient) -> None:
    response = user.post("/friend", block="1", userId=other_user.phone)
    assert response.body == {"result": "0000", "message": None}


def unblock(user: UserClient, other_user: UserClient) -> None:
    response = user.post("/friend", unblock="1", userId=other_user.phone)
    assert response.body == {"result": "0000", "message": None}


def test_friend_request_from_a_blocked_user_succeeds_but_stays_hidden(
    ann: UserClient, ben: UserClient
) -> None:
    block(ann, ben)
    # The response must not reveal to Ben that Ann has blocked Ben.
    assert ben.send_friend_request(ann).body == {"result": "0000", "message": None}
    assert ben.send_friend_request(ann).result == "0000"
    assert [message["flag"] for message in ben.messages()] == [2]
    assert ann.messages() == []


def test_accept_of_a_hidden_friend_request_returns_0006(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    block(ann, ben)
    ben.send_friend_request(ann)
    (message,) = ben.messages()
    with database_state.assert_unchanged():
        assert ann.deal_message({**message, "userId": ben.phone}, "accept").result == "0006"


def test_block_ends_the_friendship_and_hides_received_requests(
    ann: UserClient, ben: UserClient, cat: UserClient, database_state: DatabaseState
) -> None:
    ann.befriend(ben)
    cat.send_friend_request(ann)
    block(ann, ben)
    block(ann, cat)
    assert ann.friends() == ben.friends() == []
    # Ann still sees that Ben accepted Ann's request, but no longer sees the request from Cat.
    # Cat still sees this request as sent.
    assert [message["flag"] for message in ann.messages()] == [3]
    assert [message["flag"] for message in cat.messages()] == [2]


def test_block_withdraws_the_open_request_of_the_blocking_user(
    ann: UserClient, ben: UserClient
) -> None:
    ann.send_friend_request(ben)
    (message,) = ben.messages()
    block(ann, ben)
    assert ann.messages() == ben.messages() == []
    assert ben.deal_message(message, "accept").result == "0006"


def test_friend_request_to_a_blocked_user_returns_0006(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    block(ann, ben)
    with database_state.assert_unchanged():
        response = ann.send_friend_request(ben)
    assert (response.result, response.error) == ("0006", "userId; reason=user_blocked")


def test_friend_request_after_an_unblock_is_visible_and_can_be_accepted(
    ann: UserClient, ben: UserClient
) -> None:
    block(ann, ben)
    ben.send_friend_request(ann)
    unblock(ann, ben)
    assert ann.messages() == []
    assert ben.send_friend_request(ann).result == "0000"
    assert ann.deal_message(ann.messages()[0], "accept").result == "0000"
    assert [friend["userId"] for friend in ben.friends()] == [ann.phone]


def test_friend_request_after_mutual_blocks_stays_hidden_until_both_unblock(
    ann: UserClient, ben: UserClient
) -> None:
    block(ann, ben)
    block(ben, ann)
    unblock(ann, ben)
    assert ann.send_friend_request(ben).result == "0000"
    assert ben.messages() == []
    unblock(ben, ann)
    ann.send_friend_request(ben)
    assert [message["flag"] for message in ben.messages()] == [0]


def test_repeated_block_and_unblock_change_nothing(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    block(ann, ben)
    with database_state.assert_unchanged():
        block(ann, ben)
    unblock(ann, ben)
    with database_state.assert_unchanged():
        unblock(ann, ben)


@pytest.mark.parametrize("selector", ["block", "unblock"])
def test_block_of_own_phone_returns_0006_and_of_an_unknown_phone_0007(
    selector: str, ann: UserClient, database_state: DatabaseState
) -> None:
    with database_state.assert_unchanged():
        for phone, result in ((ann.phone, "0006"), ("13800000077", "0007"), ("1", "0007")):
            assert ann.post("/friend", **{selector: "1"}, userId=phone).result == result
        assert ann.post("/friend", **{selector: "1"}).result == "0007"


def test_block_at_the_block_limit_returns_0006(
    new_app: Callable[..., App],
    ann: UserClient,
    ben: UserClient,
    cat: UserClient,
    database_state: DatabaseState,
) -> None:
    limited_ann = ann.with_app(new_app(friends__max="1"))
    block(limited_ann, ben)
    with database_state.assert_unchanged():
        response = limited_ann.post("/friend", block="1", userId=cat.phone)
    assert (response.result, response.error) == (
        "0006",
        "userId; reason=too_many_blocked_users; max=1",
    )


def test_block_does_not_change_the_search_response_to_the_blocked_user(
    ann: UserClient, ben: UserClient, api: ApiClient
) -> None:
    response_before = ben.post("/friend", search="1", userId=ann.phone)
    block(ann, ben)
    assert ben.post("/friend", search="1", userId=ann.phone).body == response_before.body


@pytest.mark.parametrize("repetition", range(10))
def test_block_concurrent_with_friend_requests_leaves_no_open_request(
    repetition: int, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    responses = run_concurrently(
        partial(block, ann, ben),
        partial(ben.send_friend_request, ann),
        partial(ann.send_friend_request, ben),
    )
    assert responses[1].result in ("0000", "0010")
    assert database_state.rows("friendships") == []
    assert not [message for message in ann.messages() if message["flag"] == 0]


class TestRemovedUser:
    """A user who is blocked removes the account, and registers the phone again."""

    def register_again(self, api: ApiClient, user: UserClient) -> UserClient:
        assert user.post("/register", remove="1", password=PASSWORD).result == "0000"
        return api.register_user(user.phone)

    def test_block_applies_after_the_blocked_user_registers_again(
        self, ann: UserClient, ben: UserClient, api: ApiClient
    ) -> None:
        block(ann, ben)
        for _ in range(3):
            ben = self.register_again(api, ben)
            assert ben.send_friend_request(ann).result == "0000"
            assert ann.messages() == []
        unblock(ann, ben)
        ben.send_friend_request(ann)
        assert [message["flag"] for message in ann.messages()] == [0]

    def test_block_that_was_lifted_does_not_apply_again(
        self, ann: UserClient, ben: UserClient, api: ApiClient
    ) -> None:
        block(ann, ben)
        unblock(ann, ben)
        self.register_again(api, ben).send_friend_request(ann)
        assert [message["flag"] for message in ann.messages()] == [0]

    def test_blocks_by_the_removed_user_are_deleted(
        self, ann: UserClient, ben: UserClient, api: ApiClient, database_state: DatabaseState
    ) -> None:
        block(ann, ben)
        self.register_again(api, ann)
        assert database_state.rows("blocks") == []

    def test_removed_user_who_is_not_blocked_leaves_no_digest_of_the_phone(
        self, ann: UserClient, ben: UserClient, database_state: DatabaseState
    ) -> None:
        block(ann, ben)
        ann.post("/register", remove="1", password=PASSWORD)
        assert [row["blocked_phone_digest"] for row in database_state.rows("accounts")] == [
            None,
            None,
        ]

    def test_blocks_of_two_removed_accounts_with_one_phone_become_one_block(
        self,
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        block(ann, ben)
        ben.post("/register", remove="1", password=PASSWORD)
        digest = "SELECT blocked_phone_digest FROM accounts WHERE removed_at IS NOT NULL"
        # The previous release registers the phone again without applying the blocks.
        database_state.execute(
            "INSERT INTO accounts (password_hash, removed_at, blocked_phone_digest)"
            f" SELECT '', now(), ({digest})"
        )
        database_state.execute(
            "INSERT INTO blocks (account_id, blocked_id) SELECT account_id, max(accounts.id)"
            " FROM blocks, accounts GROUP BY account_id"
        )
        api.register_user(ben.phone)
        assert len(database_state.rows("blocks")) == 3
        assert len({row["blocked_id"] for row in database_state.rows("blocks")}) == 3
        assert services.periodic_tasks.run_once()

    def test_text_of_an_earlier_gift_stays_hidden_after_the_sender_registers_again(
        self, ann: UserClient, ben: UserClient, api: ApiClient
    ) -> None:
        ben.refill("10")
        ben.send_gift(ann, "1", description="abuse")
        block(ann, ben)
        self.register_again(api, ben)
        (record,) = ann.post("/golden", records="1").message["records"]
        assert (record["coins"], record["description"]) == (1, None)

    def test_block_of_a_removed_account_does_not_count_towards_the_block_limit(
        self,
        new_app: Callable[..., App],
        ann: UserClient,
        ben: UserClient,
        cat: UserClient,
    ) -> None:
        limited_ann = ann.with_app(new_app(friends__max="1"))
        block(limited_ann, ben)
        ben.post("/register", remove="1", password=PASSWORD)
        assert limited_ann.post("/friend", block="1", userId=cat.phone).result == "0000"

    def test_housekeeping_deletes_the_digest_after_a_year(
        self,
        ann: UserClient,
        ben: UserClient,
        api: ApiClient,
        services: Services,
        database_state: DatabaseState,
    ) -> None:
        block(ann, ben)
        ben.post("/register", remove="1", password=PASSWORD)
        for age_days, digest_count in ((364, 1), (366, 0)):
            database_state.execute(
                f"UPDATE accounts SET removed_at = now() - interval '{age_days} days'"
                " WHERE removed_at IS NOT NULL"
            )
            services.periodic_tasks.run_once()
            digests = [row["blocked_phone_digest"] for row in database_state.rows("accounts")]
            assert len([digest for digest in digests if digest]) == digest_count

    def test_zero_days_store_no_digest(
        self,
        new_app: Callable[..., App],
        ann: UserClient,
        ben: UserClient,
        database_state: DatabaseState,
    ) -> None:
        block(ann, ben)
        forgetful_ben = ben.with_app(new_app(retention__blocks_days="0"))
        forgetful_ben.post("/register", remove="1", password=PASSWORD)
        assert {row["blocked_phone_digest"] for row in database_state.rows("accounts")} == {None}
