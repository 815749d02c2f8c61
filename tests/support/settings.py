"""Minimal settings for tests of the configuration."""

# A value for every setting that has no default.
REQUIRED_SETTINGS = {
    "database.url": "postgresql+psycopg2:///x",
    "data.dir": "/tmp/x",
    "secrets": "s" * 32,
    "passwords.pepper": "p" * 32,
    "http.public_url": "https://live.example",
    "streams.gateway": "tests.support.fake_gateways.RecordingStreams",
}

# Allows development secrets, verification codes in responses, development gateways and free
# refills.
UNSAFE_SETTINGS = {
    "secrets.allow_insecure": "true",
    "codes.allow_plain": "true",
    "gateways.allow_development": "true",
    "coins.allow_free_refill": "true",
}
