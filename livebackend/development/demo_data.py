"""People who are made up, with friends, coins and rooms: to try, to show and to measure with.

The same seed makes the same people, whoever they befriend, and whatever they own. They are written
in batches that commit one by one.
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
from livebackend.ledger.transfers import CoinAccount, Gift, Kind, Transfer, request_key

# No such phone is given out in China, so none of these people can ever be sent a message.
_PHONES = 12_000_000_000
USERS_MAX = 10_000_000
# Small enough for a statement's time limit on a slow machine.
_BATCH = 500
# Friends live close by: among so many who registered next.
_NEIGHBOURS = 200
_LIVE_SHARE = 0.005
# As with `coins.refill = direct`: nobody paid, and the audit knows that.
_PROVIDER = "direct"
# So that no id of a request is ever one that an app made.
_SOURCE = "demo"

_CHINESE = (
    ("爱笑的", "追风的", "早起的", "安静的", "爱吃的", "夜跑的", "迷路的", "晒太阳的"),
    ("橘子", "小猫", "鲸鱼", "书生", "阿土", "月亮", "豆包", "木棉", "山雀", "老王"),
)
_ENGLISH = (
    ("Sunny", "Quiet", "Lucky", "Brave", "Sleepy", "Rapid", "Gentle", "Misty"),
    ("River", "Panda", "Comet", "Maple", "Otter", "Violet", "Falcon", "Noodle"),
)
_TITLES = (
    "晚安电台",
    "一起自习",
    "吉他弹唱",
    "Morning coffee",
    "Speedrun",
    "厨房直播",
    "Night walk",
)
_GIFTS = ("玫瑰", "火箭", "棒棒糖", "a rose", "a rocket", "掌声")

_LAST = text(
    "SELECT coalesce(max(phone)::bigint, :first - 1) - :first + 1 FROM accounts"
    " WHERE phone BETWEEN CAST(:first AS text) AND CAST(:first + :most - 1 AS text)"
)
_ACCOUNTS = text(
    """
    WITH people AS (
        INSERT INTO accounts (phone, password_hash, nickname, gender)
        SELECT phone, :password_hash, nickname, gender
        FROM unnest(CAST(:phones AS text[]), CAST(:nicknames AS text[]), CAST(:genders AS text[]))
            AS person (phone, nickname, gender)
        RETURNING id, phone
    ), purses AS (
        INSERT INTO coin_accounts (owner_id) SELECT id FROM people RETURNING id, owner_id
    ), slots AS (
        INSERT INTO coin_slots (coin_account_id, slot) SELECT id, 0 FROM purses
    )
    SELECT people.id, purses.id FROM people JOIN purses ON owner_id = people.id ORDER BY phone
    """
)
_FRIENDSHIPS = text(
    """
    INSERT INTO friendships (account_id, friend_id)
    SELECT one, other FROM unnest(CAST(:ones AS bigint[]), CAST(:others AS bigint[]))
        AS pair (one, other)
    UNION ALL
    SELECT other, one FROM unnest(CAST(:ones AS bigint[]), CAST(:others AS bigint[]))
        AS pair (one, other)
    """
)
# Their numbers are drawn before any that is drawn from now on, and after those of earlier data.
_REQUESTS = text(
    """
    INSERT INTO friend_requests (applicant_id, addressee_id, state, sent_at_us)
    SELECT applicant, addressee, state,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - :back_us + number
    FROM unnest(CAST(:applicants AS bigint[]), CAST(:addressees AS bigint[]),
        CAST(:states AS text[])) WITH ORDINALITY AS request (applicant, addressee, state, number)
    """
)
_ROOMS = text(
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


class Step(NamedTuple):
    """How far it has come: so many of `total` people of this stage."""

    stage: str
    done: int
    total: int


class DemoData:
    """Makes up `users` people, all with the one password that `password_hash` is of."""

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
        # By a person's number: who he is, and where his coins lie.
        self._ids = array("q")
        self._purses = array("q")
        self._first = 0

    def fill(self) -> Iterator[Step]:
        """Writes them, batch after batch; tells after each how far it is."""
        window = {"first": _PHONES, "most": USERS_MAX}
        self._first = self._database.run(
            lambda connection: connection.execute(_LAST, window).scalar_one()
        )
        works = (self._add_accounts, self._add_friends, self._add_coins, self._add_rooms)
        for stage, work in zip(self.STAGES, works, strict=True):
            for start in range(0, self._users, _BATCH):
                people = range(start, min(start + _BATCH, self._users))
                dice = Random(f"{self._seed} {stage} {start}")  # noqa: S311  # nothing is secret
                self._write(work, people, dice)
                yield Step(stage, people.stop, self._users)

    def phone(self, person: int) -> str:
        """The phone of somebody, by his number from 0 on."""
        return str(_PHONES + self._first + person)

    def _write(self, work: Any, people: range, dice: Random) -> None:
        # A batch that ran again with the same dice would throw others: it begins anew.
        state = dice.getstate()

        def write(connection: Connection) -> Any:
            dice.setstate(state)
            return work(connection, people, dice)

        found = self._database.run(write)
        for account_id, purse in found or ():
            self._ids.append(account_id)
            self._purses.append(purse)

    def _add_accounts(self, connection: Connection, people: range, dice: Random) -> Sequence[Any]:
        return connection.execute(
            _ACCOUNTS,
            {
                "phones": [self.phone(person) for person in people],
                "nicknames": [_nickname(dice) for _ in people],
                "genders": [dice.choice(("0", "1", None)) for _ in people],
                "password_hash": self._password_hash,
            },
        ).all()

    def _add_friends(self, connection: Connection, people: range, dice: Random) -> None:
        """Some four requests from each: most were accepted, and those two are friends."""
        requests = []
        for person in people:
            room = min(_NEIGHBOURS, self._users - 1 - person)
            for distance in dice.sample(range(1, room + 1), min(room, dice.randint(1, 7))):
                pair = [self._ids[person], self._ids[person + distance]]
                dice.shuffle(pair)
                (state,) = dice.choices(("accepted", "open", "declined"), (85, 12, 3))
                requests.append((*pair, state))
        if not requests:
            return
        applicants, addressees, states = map(list, zip(*requests, strict=True))
        connection.execute(
            _REQUESTS,
            {
                "applicants": applicants,
                "addressees": addressees,
                "states": states,
                "back_us": len(requests),
            },
        )
        friends = [(one, other) for one, other, state in requests if state == "accepted"]
        if friends:
            ones, others = map(list, zip(*friends, strict=True))
            connection.execute(_FRIENDSHIPS, {"ones": ones, "others": others})

    def _add_coins(self, connection: Connection, people: range, dice: Random) -> None:
        """Each buys some coins, and some give of them: by the ledger, like everybody's."""
        provider = CoinAccount(external_account(connection, _PROVIDER), external=True)
        transfers = []
        for person in people:
            bought = dice.choice((10, 50, 100))
            mine = self._purses[person]
            transfers.append(
                Transfer(
                    kind=Kind.REFILL,
                    actor=mine,
                    debit=provider,
                    credit=CoinAccount(mine),
                    amount=bought,
                    request_id=request_key(_SOURCE, mine, "refill"),
                )
            )
            host = dice.randrange(self._users)
            if dice.random() < 0.3 and host != person:
                transfers.append(self._gift(mine, host, dice.randint(1, bought), dice))
        post(connection, transfers, 0)

    def _gift(self, sender: int, host: int, amount: int, dice: Random) -> Transfer:
        return Transfer(
            kind=Kind.GIFT,
            actor=sender,
            debit=CoinAccount(sender),
            credit=CoinAccount(self._purses[host]),
            amount=amount,
            request_id=request_key(_SOURCE, sender, "gift"),
            gift=Gift(self._ids[host], None, dice.choice(_GIFTS)),
        )

    def _add_rooms(self, connection: Connection, people: range, dice: Random) -> None:
        """Some were live, and a few are: their streams are made up, whoever makes the real ones."""
        columns: dict[str, list[Any]] = {
            name: []
            for name in (
                *("accounts", "titles", "states", "stream_keys", "publish_keys"),
                *("streams", "urls", "ago_s"),
            )
        }
        for person in people:
            is_live = dice.random() < _LIVE_SHARE or person == 0
            if not is_live and dice.random() > 0.05:
                continue
            # The same seed twice must not make the same stream twice.
            key = f"demo{self._first + person:08d}{dice.getrandbits(48):012x}"
            publish_key = f"{dice.getrandbits(64):016x}"
            stream = self._streams.create(key, publish_key)
            row = (
                *(self._ids[person], dice.choice(_TITLES), "open" if is_live else "closed"),
                *(key, publish_key, json.dumps(stream.document), json.dumps(stream.play_urls)),
                dice.randint(60, 7200),
            )
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        if columns["accounts"]:
            connection.execute(_ROOMS, columns)


def _nickname(dice: Random) -> str:
    if dice.random() < 0.6:
        return "".join(map(dice.choice, _CHINESE))
    number = str(dice.randint(2, 99)) if dice.random() < 0.4 else ""
    return "".join(map(dice.choice, _ENGLISH)) + number
