"""HMAC-SHA256: the test vectors of RFC 4231, and keys of every length."""

import hmac
from collections.abc import Sequence

import pytest

from livebackend.core.hmac_sha256 import HmacSha256

# Key, message and digest of the test cases 1 to 7 in section 4 of RFC 4231. The digest of case 5 is
# truncated.
RFC_4231_CASES: Sequence[tuple[bytes, bytes, str]] = [
    (
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        (
            b"This is a test using a larger than block-size key and a larger than block-size data."
            b" The key needs to be hashed before being used by the HMAC algorithm."
        ),
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.mark.parametrize(("key", "message", "digest"), RFC_4231_CASES)
def test_digest_is_that_of_rfc_4231(key: bytes, message: bytes, digest: str) -> None:
    assert HmacSha256(key).digest(message).hex()[: len(digest)] == digest


def test_digests_equal_those_of_the_standard_library_for_each_length_of_the_key() -> None:
    for length in range(131):
        key = bytes(range(length))
        prepared = HmacSha256(key)
        for message in (b"", b"message", b"x" * 200):
            assert prepared.digest(message) == hmac.digest(key, message, "sha256")
