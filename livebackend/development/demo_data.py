"""Generates demo users with friends, coins and rooms.

The same seed and number of users give the same users. Each batch commits separately.
"""

import json
from array import array
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from livebackend.database.engine import Database
from livebackend.gateways.streams import StreamGateway
from livebackend.ledger.coin_accounts import external_account
from livebackend.ledger.posting import post
from livebackend.ledger.transfers import (
    CoinAccount,
    Gift,
    Transfer,
    TransferKind,
    derive_request_id,
)

# China assigns no phone numbers in this range, so no SMS can reach a real person.
_FIRST_PHONE = 12_000_000_000
MAX_USERS = 10_000_000
# Users per transaction: few enough for the statement timeout on a slow machine.
_USERS_PER_BATCH = 500
# Maximum difference between the user numbers of two friends.
_MAX_FRIEND_DISTANCE = 200
# The share of users who are live.
_LIVE_SHARE = 0.005
# The provider name of refills without payment, as with `coins.refill = direct`.
_REFILL_PROVIDER = "direct"
# Namespace of the request ids of demo data, which must not collide with the ids of an app.
_REQUEST_ID_NAMESPACE = "demo"

_CHINESE_NICKNAME_PARTS = (
    ("爱笑的", "追风的", "早起的", "安静的", "爱吃的", "夜跑的", "迷路的", "晒太阳的"),
    ("橘子", "小猫", "鲸鱼", "书生", "阿土", "月亮", "豆包", "木棉", "山雀", "老王"),
)
_ENGLISH_NICKNAME_PARTS = (
    ("Sunny", "Quiet", "Lucky", "Brave", "Sleepy", "Rapid", "Gentle", "Misty"),
    ("River", "Panda", "Comet", "Maple", "Otter", "Violet", "Falcon", "Noodle"),
)
_ROOM_TITLES = (
    "晚安电台",
    "一起自习",
    "吉他弹唱",
    "Morning coffee",
    "Speedrun",
    "厨房直播",
    "Night walk",
)
_GIFT_DESCRIPTIONS = ("玫瑰", "火箭", "棒棒糖", "a rose", "a rocket", "掌声")

_NEXT_USER_NUMBER = text(
    "SELECT coalesce(max(phone)::bigint, :first - 1) - :first + 1 FROM accounts"
    " WHERE phone BETWEEN CAST(:first AS text) AND CAST(:first + :count - 1 AS text)"
)
_INSERT_ACCOUNTS = text(
    """
    WITH new_accounts AS (
        INSERT INTO accounts (phone, password_hash, nickname, gender)
        SELECT phone, :password_hash, nickname, gender
        FROM unnest(CAST(:phones AS text[]), CAST(:nicknames AS text[]), CAST(:genders AS text[]))
            AS new_account (phone, nickname, gender)
        RETURNING id, phone
    ), new_coin_accounts AS (
        INSERT INTO coin_accounts (owner_id) SELECT id FROM new_accounts RETURNING id, owner_id
    ), new_slots AS (
        INSERT INTO coin_slots (coin_account_id, slot) SELECT id, 0 FROM new_coin_accounts
    )
    SELECT new_accounts.id, new_coin_accounts.id
    FROM new_accounts JOIN new_coin_accounts ON owner_id = new_accounts.id ORDER BY phone
    """
)
_INSERT_FRIENDSHIPS = text(
    """
    INSERT INTO friendships (account_id, friend_id)
    SELECT account_id, friend_id
    FROM unnest(CAST(:first_ids AS bigint[]), CAST(:second_ids AS bigint[]))
        AS pair (account_id, friend_id)
    UNION ALL
    SELECT friend_id, account_id
    FROM unnest(CAST(:first_ids AS bigint[]), CAST(:second_ids AS bigint[]))
        AS pair (account_id, friend_id)
    """
)
# sent_at_us must be unique: each request has another microsecond, which is later than those of
# earlier batches and not in the future.
_INSERT_FRIEND_REQUESTS = text(
    """
    INSERT INTO friend_requests (applicant_id, addressee_id, state, sent_at_us)
    SELECT applicant, addressee, state,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - :back_us + number
    FROM unnest(CAST(:applicants AS bigint[]), CAST(:addressees AS bigint[]),
        CAST(:states AS text[])) WITH ORDINALITY AS request (applicant, addressee, state, number)
    """
)
_INSERT_ROOMS = text(
    """
    INSERT INTO rooms (account_id, title, state, stream_key, publish_key, stream, play_urls,
        started_at, closed_at, close_reason, disabled_at)
    SELECT account, title, state, stream_key, publish_key, stream, CAST(urls AS jsonb),
        now() - make_interval(secs => ago_s),
        CASE state WHEN 'closed' THEN now() - make_interval(secs => ago_s / 2) END,
        CASE state WHEN 'closed' THEN 'left' END,
        CASE state WHEN 'closed' THEN now() - make_interval(secs => ago_s / 2) END
    FROM unnest(CAST(:accounts AS bigint[]), CAST(:titles AS text[]), CAST(:states AS text[]),
        CAST(:stream_keys AS text[]), CAST(:publish_keys AS text[]), CAST(:streams AS text[]),
        CAST(:urls AS text[]), CAST(:ago_s AS int[]))
        AS room (account, title, state, stream_key, publish_key, stream, urls, ago_s)
    """
)


class StageProgress(NamedTuple):
    """Progress of a stage of demo data: `done` of `total` users are complete."""

    stage: str
    done: int
    total: int


class DemoData:
    """Generates `users` demo users, all with the password of `password_hash`."""

    STAGES = ("accounts", "friends", "coins", "rooms")

    def __init__(
        self,
        database: Database,
        streams: StreamGateway,
        *,
        users: int,
        seed: int,
        password_hash: str,
    ) -> None:
        self._database = database
        self._streams = streams
        self._users = users
        self._seed = seed
        self._password_hash = password_hash
        # Account ids and coin account ids, indexed by user number.
        self._account_ids = array("q")
        self._coin_account_ids = array("q")
        self._first_number = 0

    def generate(self) -> Iterator[StageProgress]:
        """Write all demo users in batches; yield the progress after each batch."""
        phone_range = {"first": _FIRST_PHONE, "count": MAX_USERS}
        self._first_number = self._database.run(
            lambda connection: connection.execute(_NEXT_USER_NUMBER, phone_range).scalar_one()
        )
        writers = (self._add_accounts, self._add_friends, self._add_coins, self._add_rooms)
        for stage, write_batch in zip(self.STAGES, writers, strict=True):
            for batch_start in range(0, self._users, _USERS_PER_BATCH):
                user_numbers = range(batch_start, min(batch_start + _USERS_PER_BATCH, self._users))
                rng = Random(f"{self._seed} {stage} {batch_start}")  # noqa: S311  # not used for secrets
                self._write(write_batch, user_numbers, rng)
                yield StageProgress(stage, user_numbers.stop, self._users)

    def phone(self, number: int) -> str:
        """Return the phone of a user; `number` starts at 0."""
        return str(_FIRST_PHONE + self._first_number + number)

    def _write(self, write_batch: Any, user_numbers: range, rng: Random) -> None:
        # If Database.run retries the transaction, `write` must draw the same random numbers again.
        rng_state = rng.getstate()

        def write(connection: Connection) -> Any:
            rng.setstate(rng_state)
            return write_batch(connection, user_numbers, rng)

        rows = self._database.run(write)
        for account_id, coin_account_id in rows or ():
            self._account_ids.append(account_id)
            self._coin_account_ids.append(coin_account_id)

    def _add_accounts(
        self, connection: Connection, user_numbers: range, rng: Random
    ) -> Sequence[Any]:
        return connection.execute(
            _INSERT_ACCOUNTS,
            {
                "phones": [self.phone(number) for number in user_numbers],
                "nicknames": [_nickname(rng) for _ in user_numbers],
                "genders": [rng.choice(("0", "1", None)) for _ in user_numbers],
                "password_hash": self._password_hash,
            },
        ).all()

    def _add_friends(self, connection: Connection, user_numbers: range, rng: Random) -> None:
        """Create about four friend requests per user, most of them accepted."""
        friend_requests = []
        for number in user_numbers:
            max_distance = min(_MAX_FRIEND_DISTANCE, self._users - 1 - number)
            for distance in rng.sample(
                range(1, max_distance + 1), min(max_distance, rng.randint(1, 7))
            ):
                account_pair = [self._account_ids[number], self._account_ids[number + distance]]
                rng.shuffle(account_pair)
                (state,) = rng.choices(("accepted", "open", "declined"), (85, 12, 3))
                friend_requests.append((*account_pair, state))
        if not friend_requests:
            return
        applicants, addressees, states = map(list, zip(*friend_requests, strict=True))
        connection.execute(
            _INSERT_FRIEND_REQUESTS,
            {
                "applicants": applicants,
                "addressees": addressees,
                "states": states,
                "back_us": len(friend_requests),
            },
        )
        friend_pairs = [
            (applicant_id, addressee_id)
            for applicant_id, addressee_id, state in friend_requests
            if state == "accepted"
        ]
        if friend_pairs:
            first_ids, second_ids = map(list, zip(*friend_pairs, strict=True))
            connection.execute(
                _INSERT_FRIENDSHIPS, {"first_ids": first_ids, "second_ids": second_ids}
            )

    def _add_coins(self, connection: Connection, user_numbers: range, rng: Random) -> None:
        """Post a refill for each user, and a gift from some of the users."""
        provider_account = CoinAccount(
            external_account(connection, _REFILL_PROVIDER), external=True
        )
        transfers = []
        for number in user_numbers:
            refilled_coins = rng.choice((10, 50, 100))
            coin_account_id = self._coin_account_ids[number]
            transfers.append(
                Transfer(
                    kind=TransferKind.REFILL,
                    actor_id=coin_account_id,
                    debit=provider_account,
                    credit=CoinAccount(coin_account_id),
                    amount=refilled_coins,
                    request_id=derive_request_id(_REQUEST_ID_NAMESPACE, coin_account_id, "refill"),
                )
            )
            host_number = rng.randrange(self._users)
            if rng.random() < 0.3 and host_number != number:
                transfers.append(
                    self._gift_transfer(
                        coin_account_id, host_number, rng.randint(1, refilled_coins), rng
                    )
                )
        post(connection, transfers, 0)

    def _gift_transfer(
        self, sender_coin_account_id: int, host_number: int, amount: int, rng: Random
    ) -> Transfer:
        return Transfer(
            kind=TransferKind.GIFT,
            actor_id=sender_coin_account_id,
            debit=CoinAccount(sender_coin_account_id),
            credit=CoinAccount(self._coin_account_ids[host_number]),
            amount=amount,
            request_id=derive_request_id(_REQUEST_ID_NAMESPACE, sender_coin_account_id, "gift"),
            gift=Gift(self._account_ids[host_number], None, rng.choice(_GIFT_DESCRIPTIONS)),
        )

    def _add_rooms(self, connection: Connection, user_numbers: range, rng: Random) -> None:
        """Create closed rooms for some users and live rooms for a few."""
        values_by_column: dict[str, list[Any]] = {
            name: []
            for name in (
                *("accounts", "titles", "states", "stream_keys", "publish_keys"),
                *("streams", "urls", "ago_s"),
            )
        }
        for number in user_numbers:
            is_live = rng.random() < _LIVE_SHARE or number == 0
            if not is_live and rng.random() > 0.05:
                continue
            # The key is unique even if a seed is used twice, because the user's number differs.
            stream_key = f"demo{self._first_number + number:08d}{rng.getrandbits(48):012x}"
            publish_key = f"{rng.getrandbits(64):016x}"
            stream = self._streams.create(stream_key, publish_key)
            row = (
                *(self._account_ids[number], rng.choice(_ROOM_TITLES)),
                "open" if is_live else "closed",
                *(
                    stream_key,
                    publish_key,
                    json.dumps(stream.document),
                    json.dumps(stream.play_urls),
                ),
                rng.randint(60, 7200),
            )
            for column, value in zip(values_by_column.values(), row, strict=True):
                column.append(value)
        if values_by_column["accounts"]:
            connection.execute(_INSERT_ROOMS, values_by_column)


def _nickname(rng: Random) -> str:
    if rng.random() < 0.6:
        return "".join(map(rng.choice, _CHINESE_NICKNAME_PARTS))
    number = str(rng.randint(2, 99)) if rng.random() < 0.4 else ""
    return "".join(map(rng.choice, _ENGLISH_NICKNAME_PARTS)) + number
