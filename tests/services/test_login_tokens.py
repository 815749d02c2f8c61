"""Login tokens: signed by the newest key, read by all, worth nothing once forged or expired."""

from unittest.mock import ANY

import pytest
from itsdangerous import URLSafeSerializer

from livebackend.core.errors import DomainError, TokenExpired, TokenInvalid, TokenMissing
from livebackend.core.signing import Signer
from livebackend.services.login_tokens import Account, Claims, LoginTokens

ANN = Account(7, "13800000001", 3)
OLD, NEW = "o" * 32, "n" * 32
SIGNER = Signer([NEW], kind="login")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> LoginTokens:
    return LoginTokens([NEW, OLD], clock=clock)


def refused(tokens: LoginTokens, token: object) -> type[DomainError]:
    with pytest.raises(DomainError) as caught:
        tokens.read(token)
    return type(caught.value)


def test_a_token_says_whose_it_is(tokens: LoginTokens) -> None:
    assert tokens.read(tokens.issue(ANN, lifetime_s=60)) == Claims(ANY, 7, 3, 1_000_060)


def test_each_token_is_another(tokens: LoginTokens) -> None:
    assert tokens.issue(ANN, lifetime_s=60) != tokens.issue(ANN, lifetime_s=60)


@pytest.mark.parametrize(
    ("lifetime_s", "days"), [(None, 7), (30 * 86_400, 30), (30 * 86_400 + 1, 30)]
)
def test_token_lives_7_days_by_default_and_30_at_most(
    tokens: LoginTokens, lifetime_s: int | None, days: int
) -> None:
    token = tokens.issue(ANN, lifetime_s=lifetime_s)
    assert tokens.read(token).expires_at == 1_000_000 + days * 86_400


def test_it_expires_to_the_second(tokens: LoginTokens, clock: Clock) -> None:
    token = tokens.issue(ANN, lifetime_s=60)
    clock.now += 59.9
    assert tokens.read(token)
    clock.now += 0.1
    assert refused(tokens, token) is TokenExpired


def test_it_lives_no_moment_less_than_was_asked_for(tokens: LoginTokens, clock: Clock) -> None:
    clock.now = 1_000_000.9
    token = tokens.issue(ANN, lifetime_s=1)
    clock.now += 1
    assert tokens.read(token)


def test_the_clocks_of_two_servers_may_differ_by_a_minute(
    tokens: LoginTokens, clock: Clock
) -> None:
    token = tokens.issue(ANN, lifetime_s=600)
    clock.now -= 60
    assert tokens.read(token)
    clock.now -= 1
    assert refused(tokens, token) is TokenInvalid


def test_the_newest_key_signs_and_the_older_still_verifies(
    tokens: LoginTokens, clock: Clock
) -> None:
    before = LoginTokens([OLD], clock=clock)
    assert tokens.read(before.issue(ANN, lifetime_s=60)) == Claims(ANY, 7, 3, 1_000_060)
    assert refused(before, tokens.issue(ANN, lifetime_s=60)) is TokenInvalid


def test_anybody_elses_token_is_invalid(tokens: LoginTokens, clock: Clock) -> None:
    other = LoginTokens(["x" * 32], clock=clock)
    assert refused(tokens, other.issue(ANN, lifetime_s=60)) is TokenInvalid


@pytest.mark.parametrize(
    "claims",
    [
        {},
        [],
        None,
        "login",
        {"typ": "ticket", "jti": "x", "sub": 7, "v": 3, "iat": 1_000_000, "exp": 2_000_000},
        {"typ": "login", "jti": "x", "sub": "7", "v": 3, "iat": 1_000_000, "exp": 2_000_000},
        {"typ": "login", "jti": "x", "sub": 7, "v": 3, "iat": 1_000_000},
        {"typ": "login", "jti": "x", "sub": 7, "v": 3, "iat": 1_000_000, "exp": 2e6},
    ],
)
def test_what_we_signed_for_another_purpose_is_invalid(claims: object, tokens: LoginTokens) -> None:
    assert refused(tokens, SIGNER.sign(claims)) is TokenInvalid


def test_signed_claims_of_a_login_token_are_valid(tokens: LoginTokens) -> None:
    """The signer of the test above signs what `LoginTokens` reads."""
    claims = {"typ": "login", "jti": "x", "sub": 7, "v": 3, "iat": 1_000_000, "exp": 2_000_000}
    assert tokens.read(SIGNER.sign(claims)) == Claims("x", 7, 3, 2_000_000)


def test_another_salt_is_another_purpose(tokens: LoginTokens) -> None:
    claims = {"typ": "login", "sub": 7, "v": 3, "iat": 1_000_000, "exp": 2_000_000}
    assert refused(tokens, URLSafeSerializer(NEW, salt="x").dumps(claims)) is TokenInvalid


@pytest.mark.parametrize("token", [None, ""])
def test_no_token_is_missing(token: object, tokens: LoginTokens) -> None:
    assert refused(tokens, token) is TokenMissing


@pytest.mark.parametrize("token", ["x", "a.b", ".", "\0", "令牌", "x" * 2000, 7, b"x"])
def test_nonsense_is_invalid(token: object, tokens: LoginTokens) -> None:
    assert refused(tokens, token) is TokenInvalid
