"""Logged counters of the rate limits, and a function that counts a request."""

from alembic import op

revision = "1002"
down_revision = "1001"


def upgrade() -> None:
    # The previous release uses the unlogged table rate_limit_windows, which therefore stays.
    op.execute("""
        CREATE TABLE rate_limit_counters (
            key varchar(120) CONSTRAINT pk_rate_limit_counters PRIMARY KEY,
            times timestamptz[] NOT NULL,
            counts integer[] NOT NULL,
            expires_at timestamptz NOT NULL,
            CONSTRAINT ck_rate_limit_counters_counts
                CHECK (cardinality(times) = cardinality(counts))
        )
    """)
    op.execute("CREATE INDEX ix_rate_limit_counters_expires_at ON rate_limit_counters (expires_at)")
    # Counts one request for all rules, or for none of them. Returns no row if the request is
    # counted, or the seconds until the request can succeed. A rule that is not `counted` is only
    # checked. The times are read from the clock after the rows are locked, so that the wait for a
    # lock does not make them too early.
    op.execute("""
        CREATE FUNCTION count_request(
            keys text[], maximums integer[], windows_s integer[], counted boolean[]
        ) RETURNS TABLE (retry_after_s double precision) LANGUAGE plpgsql AS $$
        DECLARE
            moment timestamptz;
        BEGIN
            INSERT INTO rate_limit_counters (key, times, counts, expires_at)
            SELECT rule.key, '{}', '{}', clock_timestamp()
            FROM unnest(keys, counted) AS rule (key, is_counted)
            WHERE is_counted ORDER BY rule.key
            ON CONFLICT DO NOTHING;

            PERFORM FROM rate_limit_counters WHERE key = ANY (keys) ORDER BY key FOR UPDATE;
            moment := clock_timestamp();

            RETURN QUERY
            SELECT extract(epoch FROM max(hit.time) - moment)::float8 + hit.window_s
            FROM (
                SELECT rule.*, entry.time,
                    sum(entry.count) OVER (PARTITION BY rule.key ORDER BY entry.time DESC) AS total
                FROM unnest(keys, maximums, windows_s) AS rule (key, maximum, window_s)
                JOIN rate_limit_counters AS counter ON counter.key = rule.key
                CROSS JOIN unnest(counter.times, counter.counts) AS entry (time, count)
                WHERE entry.time > moment - make_interval(secs => rule.window_s)
            ) AS hit
            WHERE hit.total >= hit.maximum
            GROUP BY hit.key, hit.window_s
            ORDER BY 1 DESC LIMIT 1;
            IF FOUND THEN
                RETURN;
            END IF;

            UPDATE rate_limit_counters AS counter
            SET (times, counts) = (
                    SELECT array_agg(hit.time ORDER BY hit.time),
                        array_agg(hit.count ORDER BY hit.time)
                    FROM (
                        SELECT entry.time, sum(entry.count)::integer AS count
                        FROM (
                            SELECT * FROM unnest(counter.times, counter.counts)
                            UNION ALL SELECT rule.time, 1
                        ) AS entry (time, count)
                        WHERE entry.time > moment - make_interval(secs => rule.window_s)
                        GROUP BY entry.time
                    ) AS hit
                ),
                expires_at = rule.time + make_interval(secs => rule.window_s)
            FROM (
                -- A rule of more than 100 requests counts them in a hundred intervals, so that a
                -- row stays small. The end of the interval counts: no window exceeds the maximum.
                SELECT item.key, item.window_s, CASE WHEN item.maximum <= 100 THEN moment
                    ELSE to_timestamp(
                        ceil(extract(epoch FROM moment) * 100 / item.window_s) * item.window_s / 100
                    ) END AS time
                FROM unnest(keys, maximums, windows_s, counted)
                    AS item (key, maximum, window_s, is_counted)
                WHERE item.is_counted
            ) AS rule
            WHERE counter.key = rule.key;
        END
        $$
    """)
