"""The SQL statements of the WSGI baseline, which each of its connections prepares once.

The texts are copies of livebackend's statements. They do not change with livebackend's code, so
results of different versions of livebackend have the same baseline.
"""

import re

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


class Statement:
    """A statement with psycopg2 placeholders, its PREPARE and its EXECUTE."""

    all: "list[Statement]" = []  # noqa: RUF012  # filled below

    def __init__(self, text: str) -> None:
        self.text = text
        names = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
        numbered_text = _PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1}", text)
        statement_name = f"statement_{len(self.all)}"
        self.prepare = f"PREPARE {statement_name} AS {numbered_text}"
        self.execute = f"EXECUTE {statement_name} ({', '.join(f'%({name})s' for name in names)})"
        self.all.append(self)


_TOKEN_OWNER = """
    SELECT id, phone FROM accounts
    WHERE id = %(account_id)s AND token_version = %(version)s AND phone IS NOT NULL
        AND disabled_at IS NULL
        AND NOT EXISTS (SELECT FROM revoked_tokens WHERE token_id = %(token_id)s)
"""
TOKEN_OWNER = Statement(_TOKEN_OWNER)
FRIEND_LIST = Statement(
    f"""
    WITH me AS ({_TOKEN_OWNER})
    SELECT accounts.phone, accounts.nickname, accounts.gender, accounts.head_image, rooms.title,
        rooms.play_urls
    FROM me LEFT JOIN (
        friendships JOIN accounts ON accounts.id = friendships.friend_id
        LEFT JOIN rooms ON rooms.account_id = friendships.friend_id AND rooms.state = 'open'
    ) ON friendships.account_id = me.id
    ORDER BY rooms.started_at DESC NULLS LAST, accounts.nickname COLLATE "C" NULLS LAST,
        accounts.phone
    LIMIT %(limit)s
    """
)
MESSAGE_LIST = Statement(
    f"""
    WITH me AS ({_TOKEN_OWNER})
    SELECT me.phone AS my_phone, copies.sent_at_us, copies.is_applicant, copies.accepted,
        accounts.phone, accounts.nickname, accounts.gender, accounts.head_image
    FROM me LEFT JOIN (
        (
            (SELECT sent_at_us, state = 'accepted' AS accepted, true AS is_applicant,
                addressee_id AS other_account_id
            FROM friend_requests WHERE applicant_id = %(account_id)s AND applicant_visible
            ORDER BY sent_at_us DESC LIMIT %(limit)s)
            UNION ALL
            (SELECT sent_at_us, state = 'accepted' AS accepted, false AS is_applicant,
                applicant_id AS other_account_id
            FROM friend_requests WHERE addressee_id = %(account_id)s AND addressee_visible
            ORDER BY sent_at_us DESC LIMIT %(limit)s)
        ) AS copies JOIN accounts ON accounts.id = copies.other_account_id
    ) ON true
    ORDER BY copies.sent_at_us DESC
    LIMIT %(limit)s
    """
)
FIND_ACCOUNT = Statement(
    """
    SELECT id, phone, nickname, gender, head_image, EXISTS (
        SELECT FROM friendships WHERE account_id = %(me)s AND friend_id = accounts.id)
    FROM accounts WHERE phone = %(phone)s
    """
)
LOCK_ACCOUNTS = Statement(
    """
    SELECT id, phone FROM accounts
    WHERE (id = %(me)s OR phone = %(user_id)s OR public_id = %(user_id)s) AND phone IS NOT NULL
    ORDER BY id FOR NO KEY UPDATE
    """
)
RELATIONSHIP = Statement(
    """
    SELECT
        EXISTS (SELECT FROM friendships WHERE account_id = %(me)s AND friend_id = %(other)s),
        (SELECT id FROM friend_requests
        WHERE applicant_id = %(me)s AND addressee_id = %(other)s AND state = 'open'),
        (SELECT id FROM friend_requests
        WHERE applicant_id = %(other)s AND addressee_id = %(me)s AND state = 'open'),
        (SELECT count(*) FROM friendships WHERE account_id = %(me)s),
        (SELECT count(*) FROM friendships WHERE account_id = %(other)s),
        EXISTS (SELECT FROM blocks WHERE account_id = %(me)s AND blocked_id = %(other)s),
        EXISTS (SELECT FROM blocks WHERE account_id = %(other)s AND blocked_id = %(me)s)
    """
)
INSERT_REQUEST = Statement(
    "INSERT INTO friend_requests (applicant_id, addressee_id) VALUES (%(me)s, %(other)s)"
)
ACCEPT_REQUEST = Statement(
    "UPDATE friend_requests SET state = 'accepted' WHERE id = %(id)s AND state = 'open'"
    " RETURNING id"
)
REQUESTS_BY_TIME = Statement(
    "SELECT id, applicant_id, addressee_id, state, sent_at_us FROM friend_requests"
    " WHERE sent_at_us IN (%(first)s, %(second)s)"
)
INSERT_FRIENDSHIPS = Statement(
    "INSERT INTO friendships (account_id, friend_id)"
    " VALUES (CAST(%(me)s AS bigint), CAST(%(other)s AS bigint)), (%(other)s, %(me)s)"
)
LOGIN_ACCOUNT = Statement(
    """
    SELECT id, phone, token_version, password_hash, disabled_at, login_addresses.digests
    FROM accounts LEFT JOIN login_addresses ON login_addresses.account_id = accounts.id
    WHERE phone = %(phone)s
    """
)
GIFT_ACCOUNTS = Statement(
    f"""
    WITH me AS ({_TOKEN_OWNER})
    SELECT debit.id, credit.id, accounts.id, rooms.id
    FROM me JOIN coin_accounts AS debit ON debit.owner_id = me.id LEFT JOIN (
        accounts JOIN coin_accounts AS credit ON credit.owner_id = accounts.id
        LEFT JOIN rooms ON rooms.account_id = accounts.id AND rooms.state = 'open'
    ) ON (accounts.phone = %(user_id)s OR accounts.public_id = %(user_id)s)
        AND accounts.phone IS NOT NULL
    """
)
LOCK_COINS = Statement(
    "SELECT amount FROM coin_slots WHERE coin_account_id = %(debit)s AND slot = 0 FOR NO KEY UPDATE"
)
CREDIT = Statement(
    "INSERT INTO coin_slots (coin_account_id, slot, amount)"
    " VALUES (%(credit)s, %(slot)s, %(coins)s) ON CONFLICT (coin_account_id, slot)"
    " DO UPDATE SET amount = coin_slots.amount + excluded.amount"
)
DEBIT = Statement(
    "UPDATE coin_slots SET amount = amount - %(coins)s"
    " WHERE coin_account_id = %(debit)s AND slot = 0"
)
INSERT_TRANSFER = Statement(
    "INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)"
    " VALUES (1, %(debit)s, %(credit)s, %(coins)s, %(debit)s, %(request_id)s) RETURNING id"
)
INSERT_GIFT = Statement(
    "INSERT INTO gifts (transfer_id, host_id, room_id, description)"
    " VALUES (%(transfer_id)s, %(host_id)s, %(room_id)s, %(description)s)"
)
COUNT_REQUEST = Statement(
    """
    SELECT retry_after_s FROM count_request(
        CAST(%(keys)s AS text[]), CAST(%(maximums)s AS integer[]),
        CAST(%(windows_s)s AS integer[]), CAST(%(counted)s AS boolean[]))
    """
)
