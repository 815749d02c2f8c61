"""Friendships, and the requests that lead there."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE friendships (
            account_id bigint CONSTRAINT fk_friendships_account_id REFERENCES accounts (id),
            friend_id bigint CONSTRAINT fk_friendships_friend_id REFERENCES accounts (id),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_friendships PRIMARY KEY (account_id, friend_id),
            CONSTRAINT fk_friendships_friend_id_account_id FOREIGN KEY (friend_id, account_id)
                REFERENCES friendships (account_id, friend_id),
            CONSTRAINT ck_friendships_not_oneself CHECK (account_id <> friend_id)
        )
    """)
    op.execute("""
        CREATE TABLE friend_requests (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_friend_requests PRIMARY KEY,
            applicant_id bigint NOT NULL
                CONSTRAINT fk_friend_requests_applicant_id REFERENCES accounts (id),
            addressee_id bigint NOT NULL
                CONSTRAINT fk_friend_requests_addressee_id REFERENCES accounts (id),
            state varchar(8) NOT NULL DEFAULT 'open' CONSTRAINT ck_friend_requests_state
                CHECK (state IN ('open', 'accepted', 'declined')),
            sent_at_us bigint NOT NULL
                DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
                CONSTRAINT uq_friend_requests_sent_at_us UNIQUE,
            applicant_keeps boolean NOT NULL DEFAULT true,
            addressee_keeps boolean NOT NULL DEFAULT true,
            CONSTRAINT ck_friend_requests_not_oneself CHECK (applicant_id <> addressee_id)
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX uq_friend_requests_open
            ON friend_requests (applicant_id, addressee_id) WHERE state = 'open'
    """)
    op.execute("""
        CREATE INDEX ix_friend_requests_applicant
            ON friend_requests (applicant_id, sent_at_us) WHERE applicant_keeps
    """)
    op.execute("""
        CREATE INDEX ix_friend_requests_addressee
            ON friend_requests (addressee_id, sent_at_us) WHERE addressee_keeps
    """)
