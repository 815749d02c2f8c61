"""Login tokens: signatures, key rotation, expiry and claims."""

from unittest.mock import ANY

import pytest

from livebackend.core.errors import DomainError, TokenExpired, TokenInvalid, TokenMissing
from livebackend.core.signing import Signer
from livebackend.services.login_tokens import CurrentUser, LoginTokens, TokenClaims
from tests.support.clock import FakeClock

ANN = CurrentUser(7, "13800000001", 3)
OLD_KEY, NEW_KEY = "o" * 32, "n" * 32
SIGNER = Signer([NEW_KEY], kind="login")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_000_000)


@pytest.fixture
def tokens(clock: FakeClock) -> LoginTokens:
    return LoginTokens([NEW_KEY, OLD_KEY], clock=clock)


def read_error(tokens: LoginTokens, token: object) -> type[DomainError]:
    with pytest.raises(DomainError) as caught:
        tokens.read(token)
    return type(caught.value)


def test_token_contains_account_version_and_expiry(tokens: LoginTokens) -> None:
    assert tokens.read(tokens.issue(ANN, lifetime_s=60)) == TokenClaims(ANY, 7, 3, 1_000_060)


def test_token_of_release_0_2_0_is_valid() -> None:
    token = (
        "eyJ0eXAiOiJsb2dpbiIsInN1YiI6NDcxMSwidiI6MywiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE3MDI1OTIwMDEs"
        "Imp0aSI6Ik5OZW9jRXQwNHhHWDJpSDQifQ.HmQE_6zxuJ-s2K7hMxAyzbPxAVknGgpvjzoCvd2bzbg"
    )
    secret = "a-secret-of-release-0.2.0-that-is-long-enough"
    tokens = LoginTokens([NEW_KEY, secret], clock=lambda: 1_702_592_000.0)
    assert tokens.read(token) == TokenClaims("NNeocEt04xGX2iH4", 4711, 3, 1_702_592_001)


def test_token_has_the_claims_that_release_0_2_0_requires(tokens: LoginTokens) -> None:
    claims = SIGNER.read(tokens.issue(ANN))
    assert {name: type(value) for name, value in claims.items()} == {
        "typ": str,
        "sub": int,
        "v": int,
        "iat": int,
        "exp": int,
        "jti": str,
    }


def test_two_tokens_of_an_account_differ(tokens: LoginTokens) -> None:
    assert tokens.issue(ANN, lifetime_s=60) != tokens.issue(ANN, lifetime_s=60)


@pytest.mark.parametrize(
    ("lifetime_s", "valid_days"), [(None, 7), (30 * 86_400, 30), (30 * 86_400 + 1, 30)]
)
def test_token_is_valid_for_7_days_by_default_and_for_at_most_30_days(
    tokens: LoginTokens, lifetime_s: int | None, valid_days: int
) -> None:
    token = tokens.issue(ANN, lifetime_s=lifetime_s)
    assert tokens.read(token).expires_at == 1_000_000 + valid_days * 86_400


def test_token_expires_exactly_after_its_lifetime(tokens: LoginTokens, clock: FakeClock) -> None:
    token = tokens.issue(ANN, lifetime_s=60)
    clock.now += 59.9
    assert tokens.read(token)
    clock.now += 0.1
    assert read_error(tokens, token) is TokenExpired


def test_token_issued_in_mid_second_is_valid_for_its_full_lifetime(
    tokens: LoginTokens, clock: FakeClock
) -> None:
    clock.now = 1_000_000.9
    token = tokens.issue(ANN, lifetime_s=1)
    clock.now += 1
    assert tokens.read(token)


@pytest.mark.parametrize("ahead_s", [60, 3600, 86_400])
def test_token_of_a_server_whose_clock_is_ahead_is_valid(
    ahead_s: float, tokens: LoginTokens, clock: FakeClock
) -> None:
    token = tokens.issue(ANN, lifetime_s=600)
    clock.now -= ahead_s
    assert tokens.read(token)


def test_token_has_the_issue_time_that_the_previous_release_requires(tokens: LoginTokens) -> None:
    assert SIGNER.read(tokens.issue(ANN))["iat"] == 1_000_000


def test_newest_key_signs_tokens_and_older_key_still_verifies_them(
    tokens: LoginTokens, clock: FakeClock
) -> None:
    old_tokens = LoginTokens([OLD_KEY], clock=clock)
    assert tokens.read(old_tokens.issue(ANN, lifetime_s=60)) == TokenClaims(ANY, 7, 3, 1_000_060)
    assert read_error(old_tokens, tokens.issue(ANN, lifetime_s=60)) is TokenInvalid


def test_token_signed_with_an_unknown_key_is_invalid(tokens: LoginTokens, clock: FakeClock) -> None:
    tokens_with_unknown_key = LoginTokens(["x" * 32], clock=clock)
    assert read_error(tokens, tokens_with_unknown_key.issue(ANN, lifetime_s=60)) is TokenInvalid


@pytest.mark.parametrize(
    "claims",
    [
        {},
        [],
        None,
        "login",
        {"typ": "ticket", "jti": "x", "sub": 7, "v": 3, "exp": 2_000_000},
        {"typ": "login", "jti": "x", "sub": "7", "v": 3, "exp": 2_000_000},
        {"typ": "login", "jti": "x", "sub": 7, "v": 3},
        {"typ": "login", "jti": "x", "sub": 7, "v": 3, "exp": 2e6},
    ],
)
def test_signed_value_without_the_claims_of_a_login_token_is_invalid(
    claims: object, tokens: LoginTokens
) -> None:
    assert read_error(tokens, SIGNER.sign(claims)) is TokenInvalid


def test_signed_claims_of_a_login_token_are_valid(tokens: LoginTokens) -> None:
    """Check that SIGNER has the key and the salt of LoginTokens.

    With another key or salt, the previous test would pass only because the signature is invalid.
    """
    claims = {"typ": "login", "jti": "x", "sub": 7, "v": 3, "exp": 2_000_000}
    assert tokens.read(SIGNER.sign(claims)) == TokenClaims("x", 7, 3, 2_000_000)


def test_login_claims_signed_for_another_kind_are_invalid(tokens: LoginTokens) -> None:
    claims = {"typ": "login", "jti": "x", "sub": 7, "v": 3, "exp": 2_000_000}
    assert read_error(tokens, Signer([NEW_KEY], kind="code").sign(claims)) is TokenInvalid


@pytest.mark.parametrize("token", [None, ""])
def test_empty_token_is_reported_as_missing(token: object, tokens: LoginTokens) -> None:
    assert read_error(tokens, token) is TokenMissing


@pytest.mark.parametrize("token", ["x", "a.b", ".", "\0", "令牌", "x" * 2000, 7, b"x"])
def test_malformed_token_is_invalid(token: object, tokens: LoginTokens) -> None:
    assert read_error(tokens, token) is TokenInvalid
