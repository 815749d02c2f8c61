"""Fill an empty database with accounts, friends, messages, rooms and gifts by SQL."""

import time

from sqlalchemy import Connection, text

from livebackend.database.call_deadlines import remove_deadline
from livebackend.database.engine import Database, disable_timeouts

PASSWORD = "harbour-42"
# Accounts 1 to LISTED_ACCOUNTS have friends and messages; the benchmarks request their lists.
LISTED_ACCOUNTS = 1000
FRIENDS_PER_ACCOUNT = 100
MESSAGES_PER_ACCOUNT = 50
ROOM_COUNT = 1000
# Ids of additional accounts with shorter or longer friend lists, by number of friends.
ACCOUNT_BY_LIST_SIZE = {10: 1001, 1000: 1002, 5000: 1003}
# Id of the account that receives every gift in the benchmark of gifts to one host.
POPULAR_HOST = 1004
GIFT_COUNT = 50_000

# The first message is an hour old, because the server deletes messages after some months.
FIRST_SENT_AT_US = int(time.time() - 3600) * 1_000_000

_COINS_PER_ACCOUNT = 1_000_000_000

_INSERT_ACCOUNTS = text(
    """
    WITH new_accounts AS (
        INSERT INTO accounts (id, phone, password_hash, gender, nickname, head_image)
        OVERRIDING SYSTEM VALUE
        SELECT n, (13800000000 + n)::text, :password_hash, (n % 2)::text, 'nickname ' || n,
            'https://pictures.example.com/' || md5(n::text) || '/picture.jpg'
        FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n
        RETURNING id
    ), new_coin_accounts AS (
        INSERT INTO coin_accounts (id, owner_id) OVERRIDING SYSTEM VALUE SELECT id, id
        FROM new_accounts
        RETURNING id
    )
    INSERT INTO coin_slots (coin_account_id, slot, amount) SELECT id, 0, :coins
    FROM new_coin_accounts
    """
)
_INSERT_FRIENDSHIPS = text(
    """
    WITH pairs AS (
        SELECT owner AS a, 2000 + (owner * 100 + n) % (:users - 2000) AS b
        FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS owner,
            generate_series(1, CAST(:friends AS int)) AS n
    )
    INSERT INTO friendships (account_id, friend_id)
    SELECT a, b FROM pairs UNION ALL SELECT b, a FROM pairs
    """
)
_INSERT_MESSAGES = text(
    """
    INSERT INTO friend_requests (applicant_id, addressee_id, state, sent_at_us)
    SELECT 2000 + (owner * 50 + n) % (:users - 2000), owner, 'accepted',
        :first_sent_at_us + owner * 1000 + n
    FROM generate_series(1, CAST(:listed AS int)) AS owner,
        generate_series(1, CAST(:messages AS int)) AS n
    """
)
_INSERT_ROOMS = text(
    """
    INSERT INTO rooms
        (account_id, title, state, stream_key, publish_key, stream, play_urls, started_at)
    SELECT 2000 + n * ((:users - 2000) / 1000), 'room ' || n, 'open', md5(n::text), md5(n::text),
        '{}',
        jsonb_build_object(
            'rtmp', 'rtmp://live.example.com/livebackend/' || md5(n::text),
            'hls', 'http://hls.example.com/livebackend/' || md5(n::text) || '.m3u8',
            'hdl', 'http://hdl.example.com/livebackend/' || md5(n::text) || '.flv'),
        now() - make_interval(secs => n)
    FROM generate_series(0, CAST(:rooms AS int) - 1) AS n
    """
)
_INSERT_GIFTS = text(
    """
    WITH new_transfers AS (
        INSERT INTO transfers (kind, debit_id, credit_id, amount, actor_id, request_id)
        SELECT 1, sender, host, 1, sender, gen_random_uuid()
        FROM generate_series(1, CAST(:gifts AS int)) AS n,
            LATERAL (SELECT 2000 + n % (:users - 3000), :users - n % 999) AS pair (sender, host)
        RETURNING id, credit_id
    )
    INSERT INTO gifts (transfer_id, host_id, description) SELECT id, credit_id, 'rose'
    FROM new_transfers
    """
)


def fill_database(database: Database, *, user_count: int, password_hash: str) -> None:
    """Insert `user_count` accounts with friends, messages, rooms and gifts."""
    add_users(database, first_id=1, last_id=user_count, password_hash=password_hash)
    with database.engine.begin() as connection:
        _disable_checks(connection)
        accounts_by_friend_count = {FRIENDS_PER_ACCOUNT: (1, LISTED_ACCOUNTS)} | {
            size: (account, account) for size, account in ACCOUNT_BY_LIST_SIZE.items()
        }
        for friend_count, (first_id, last_id) in accounts_by_friend_count.items():
            values = {
                "first": first_id,
                "last": last_id,
                "friends": friend_count,
                "users": user_count,
            }
            connection.execute(_INSERT_FRIENDSHIPS, values)
        connection.execute(
            _INSERT_MESSAGES,
            {
                "listed": LISTED_ACCOUNTS,
                "messages": MESSAGES_PER_ACCOUNT,
                "users": user_count,
                "first_sent_at_us": FIRST_SENT_AT_US,
            },
        )
        connection.execute(_INSERT_ROOMS, {"rooms": ROOM_COUNT, "users": user_count})
        connection.execute(_INSERT_GIFTS, {"gifts": GIFT_COUNT, "users": user_count})
    vacuum(database)


def add_users(database: Database, *, first_id: int, last_id: int, password_hash: str) -> None:
    """Insert accounts with the ids from `first_id` to `last_id`, each with many coins."""
    with database.engine.begin() as connection:
        _disable_checks(connection)
        values = {
            "first": first_id,
            "last": last_id,
            "password_hash": password_hash,
            "coins": _COINS_PER_ACCOUNT,
        }
        connection.execute(_INSERT_ACCOUNTS, values)
        for table in ("accounts", "coin_accounts"):
            connection.execute(
                text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last_id})")
            )


def vacuum(database: Database) -> None:
    """Vacuum and analyze all tables, so that autovacuum has no work in benchmarks."""
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        remove_deadline(connection)
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM (ANALYZE, FREEZE)"))
        connection.execute(text("CHECKPOINT"))


def phone_number(account_id: int) -> str:
    return str(13_800_000_000 + account_id)


def _disable_checks(connection: Connection) -> None:
    disable_timeouts(connection)
    # This setting disables foreign key checks, which are slow; the inserted rows are consistent.
    connection.execute(text("SET LOCAL session_replication_role = replica"))
