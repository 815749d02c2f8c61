"""Minimal settings for tests of the configuration."""

# Every setting without a default.
REQUIRED_SETTINGS = {
    "database.url": "postgresql+psycopg2:///x",
    "var.dir": "/tmp/x",
    "secrets": "s" * 32,
    "passwords.pepper": "p" * 32,
    "http.url": "https://live.example",
    "streams.gateway": "tests.support.fake_gateways.CountedStreams",
}

# Allows development secrets, plain codes, development gateways and free refills.
UNSAFE_SETTINGS = {
    "secrets.known_is_meant": "true",
    "codes.plain_is_meant": "true",
    "gateways.embedded_is_meant": "true",
    "coins.direct_refill_is_meant": "true",
}
