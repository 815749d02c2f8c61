"""The friend list and the message list as JSON, which PostgreSQL writes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from livebackend import models
from livebackend.core.errors import TokenInvalid
from livebackend.database.engine import Database
from livebackend.services.lists import Lists
from livebackend.services.login_tokens import TokenClaims

LISTS = Lists(friends_max=5000, messages_max=500)
ANN, BEN = "13800000001", "13800000002"
SENT_AT_US = 1_700_000_000_000_000
TEXTS = [
    'a "quoted" name',
    "back\\slash \\u0041 \\n",
    "</script>&amp;",
    "tab\tand\nline\r",
    "\x01\x08\x0c\x1f\x7f\x85",
    "line\u2028paragraph\u2029",
    "joined\u200dright\u200eto left\u202e",
    "安\U0001f600\U0001f468\u200d\U0001f469",
    "null",
    "{}",
]


def add_account(connection: Connection, phone: str, **profile: str | None) -> TokenClaims:
    """Insert an account; return the claims of its login token."""
    account = connection.execute(
        insert(models.Account)
        .values(phone=phone, password_hash="", **profile)
        .returning(models.Account.id, models.Account.token_version)
    ).one()
    return TokenClaims("t", *account, expires_at=0)


def add_friends(connection: Connection, *claims: TokenClaims) -> None:
    """Make the first account a friend of each other one."""
    ids = [one.account_id for one in claims]
    pairs = [pair for friend in ids[1:] for pair in ((ids[0], friend), (friend, ids[0]))]
    values = [{"account_id": account, "friend_id": friend} for account, friend in pairs]
    connection.execute(insert(models.Friendship).values(values))


def add_request(
    connection: Connection, applicant: TokenClaims, addressee: TokenClaims, **values: Any
) -> None:
    """Insert a friend request."""
    ids = {"applicant_id": applicant.account_id, "addressee_id": addressee.account_id}
    connection.execute(insert(models.FriendRequest).values(**ids, **values))


def friends(connection: Connection, claims: TokenClaims) -> list[dict[str, Any]]:
    """Return the friend list, parsed by Python's json module."""
    json_list = LISTS.friends(connection, claims)
    entries: list[dict[str, Any]] = json.loads(json_list.entries)
    assert json_list.count == len(entries)
    return entries


def messages(connection: Connection, claims: TokenClaims) -> list[dict[str, Any]]:
    """Return the message list, parsed by Python's json module."""
    entries: list[dict[str, Any]] = json.loads(LISTS.messages(connection, claims).entries)
    return entries


def test_lists_of_an_account_without_friends_are_empty_arrays(database: Database) -> None:
    with database.engine.begin() as connection:
        ann = add_account(connection, ANN)
        for json_list in (LISTS.friends(connection, ann), LISTS.messages(connection, ann)):
            assert (json_list.count, json_list.entries) == (0, "[]")


def test_lists_of_a_revoked_token_are_refused(database: Database) -> None:
    with database.engine.begin() as connection:
        ann = add_account(connection, ANN)
        revoked = ann._replace(version=ann.version + 1)
        for read in (LISTS.friends, LISTS.messages):
            with pytest.raises(TokenInvalid):
                read(connection, revoked)


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_a_profile_in_a_list_is_the_stored_text(text: str, database: Database) -> None:
    with database.engine.begin() as connection:
        ann = add_account(connection, ANN)
        ben = add_account(connection, BEN, nickname=text, head_image=text)
        add_friends(connection, ann, ben)
        add_request(connection, ben, ann)
        assert connection.scalar(select(models.Account.nickname).filter_by(phone=BEN)) == text
        (friend,), (message,) = friends(connection, ann), messages(connection, ann)
    assert (friend["nickname"], friend["headImage"]) == (text, text)
    assert (message["nickname"], message["headImage"]) == (text, text)


@pytest.mark.parametrize("text", TEXTS)
def test_title_and_play_urls_of_a_friend_are_the_stored_values(
    text: str, database: Database
) -> None:
    play_urls = {"rtmp": text, "hls": None, "hdl": "http://x/?a=1&b=2"}
    with database.engine.begin() as connection:
        ann, ben = add_account(connection, ANN), add_account(connection, BEN)
        add_friends(connection, ann, ben)
        room = {
            "account_id": ben.account_id,
            "title": text,
            "state": "open",
            "stream_key": "key",
            "publish_key": "key",
            "stream": "{}",
            "play_urls": play_urls,
        }
        connection.execute(insert(models.Room).values(room))
        (friend,) = friends(connection, ann)
    assert (friend["title"], friend["playUrl"]) == (text, play_urls)
    assert friend["liveStatus"] == "on"


def test_entry_of_an_empty_profile_has_null_for_each_missing_value(database: Database) -> None:
    with database.engine.begin() as connection:
        ann, ben = add_account(connection, ANN), add_account(connection, BEN)
        add_friends(connection, ann, ben)
        add_request(connection, ben, ann, sent_at_us=SENT_AT_US)
        profile = {"userId": BEN, "nickname": None, "gender": None, "headImage": None}
        assert friends(connection, ann) == [
            {**profile, "liveStatus": "off", "title": None, "playUrl": None}
        ]
        assert messages(connection, ann) == [
            {
                "verifyId": f"{ANN},{SENT_AT_US}",
                "objectId": f"{BEN},{SENT_AT_US}",
                **profile,
                "flag": 0,
                "time": "2023-11-14T22:13:20.000000Z",
            }
        ]


@pytest.mark.parametrize("microseconds", [0, 1, 10, 120_000, 500_000, 999_999])
def test_message_time_has_six_decimal_places(microseconds: int, database: Database) -> None:
    sent_at_us = SENT_AT_US + microseconds
    with database.engine.begin() as connection:
        ann, ben = add_account(connection, ANN), add_account(connection, BEN)
        add_request(connection, ann, ben, sent_at_us=sent_at_us)
        (message,) = messages(connection, ann)
    assert message["time"] == f"2023-11-14T22:13:20.{microseconds:06}Z"
    sent_at = datetime.fromisoformat(message["time"])
    assert (sent_at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6 == sent_at_us


def test_message_flag_is_a_number_for_each_side_and_state(database: Database) -> None:
    with database.engine.begin() as connection:
        ann, ben = add_account(connection, ANN), add_account(connection, BEN)
        for n, state in enumerate(("open", "accepted", "declined")):
            add_request(connection, ann, ben, state=state, sent_at_us=SENT_AT_US - n)
        flags_of_applicant = [message["flag"] for message in messages(connection, ann)]
        flags_of_addressee = [message["flag"] for message in messages(connection, ben)]
    assert json.dumps([flags_of_applicant, flags_of_addressee]) == "[[2, 3, 2], [0, 1, 0]]"


def test_message_ids_of_both_sides_name_addressee_and_applicant(database: Database) -> None:
    with database.engine.begin() as connection:
        ann, ben = add_account(connection, ANN), add_account(connection, BEN)
        add_request(connection, ann, ben, sent_at_us=SENT_AT_US)
        for reader in (ann, ben):
            (message,) = messages(connection, reader)
            assert message["verifyId"] == f"{BEN},{SENT_AT_US}"
            assert message["objectId"] == f"{ANN},{SENT_AT_US}"
