"""Digests of the subjects in the table `rate_limit_counters`."""

import hmac

from livebackend.core.signing import derived_key


def subject_digest(secret: str, subject: str) -> str:
    """Return the digest of a subject in the keys of the rate limits of a server."""
    return hmac.digest(derived_key(secret, "rate limits"), subject.encode(), "sha256").hex()[:32]
