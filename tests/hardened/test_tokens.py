"""Tests of invalid login tokens in every operation that needs a token."""

import base64
import hashlib
import hmac
import json
import string
from collections.abc import Callable
from typing import Any

import pytest

from livebackend.core.signing import Signer
from tests.support.api import App, UserClient
from tests.support.authenticated_calls import AUTHENTICATED_CALLS
from tests.support.database_state import AssertNoSideEffects
from tests.support.servers import HARDENED_SECRET, hardened_settings

SECRET = hardened_settings("")["secrets"]


def with_changed_character(token: str, index: int) -> str:
    replacement = "B" if token[index] == "A" else "A"
    return token[:index] + replacement + token[index + 1 :]


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwt(token: str, algorithm: str) -> str:
    """Return a JWT with the payload of a login token."""
    header = base64url(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    signing_input = f"{header}.{token.partition('.')[0]}"
    digest = hmac.digest(SECRET.encode(), signing_input.encode(), hashlib.sha256)
    return f"{signing_input}.{base64url(digest) if algorithm == 'HS256' else ''}"


def with_full_width_digits(token: str) -> str:
    return token.translate({ord(digit): ord(digit) + 0xFEE0 for digit in string.digits})


@pytest.mark.parametrize(
    "forge_token",
    [
        pytest.param(lambda token: "", id="empty"),
        pytest.param(lambda token: with_changed_character(token, 5), id="changed payload"),
        pytest.param(lambda token: with_changed_character(token, -5), id="changed signature"),
        pytest.param(lambda token: token.partition(".")[0], id="no signature"),
        pytest.param(lambda token: token.partition(".")[0] + ".", id="empty signature"),
        pytest.param(with_full_width_digits, id="full-width digits"),
        pytest.param(lambda token: f"Bearer {token}", id="with Bearer prefix"),
        pytest.param(lambda token: jwt(token, "none"), id="unsigned JWT"),
        pytest.param(lambda token: jwt(token, "HS256"), id="JWT signed with the secret"),
        pytest.param(lambda token: "x" * 60_000, id="60 kB"),
        pytest.param(lambda token: token + "\0", id="trailing NUL"),
        pytest.param(lambda token: token + " ", id="trailing blank"),
        pytest.param(lambda token: token + "==", id="padding"),
        pytest.param(lambda token: token + "中", id="trailing Chinese character"),
        pytest.param(lambda token: f"{token[:-9]}!!{token[-9:]}", id="!! in the signature"),
    ],
)  # fmt: skip
def test_forged_token_returns_0012_from_every_operation(
    forge_token: Callable[[str], str],
    ann: UserClient,
    ben: UserClient,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    assert_0012_from_every_operation(ann, forge_token(ann.token), assert_no_side_effects)


@pytest.mark.parametrize(
    "invalid_claims",
    [
        pytest.param({"sub": [1]}, id="account id is a list"),
        pytest.param({"sub": "1"}, id="account id is a string"),
        pytest.param({"sub": 1.0}, id="account id is a float"),
        pytest.param({"sub": 10**30}, id="account id out of range"),
        pytest.param({"sub": -1}, id="account id is negative"),
        pytest.param({"v": None}, id="version is null"),
        pytest.param({"v": 10**30}, id="version out of range"),
        pytest.param({"jti": 7}, id="token id is a number"),
        pytest.param({"typ": "code"}, id="wrong token type"),
        pytest.param({"exp": "tomorrow"}, id="expiry is a string"),
    ],
)
def test_correctly_signed_token_with_invalid_claims_returns_0012(
    invalid_claims: dict[str, Any],
    ann: UserClient,
    ben: UserClient,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    signer = Signer([HARDENED_SECRET], kind="login")
    valid_claims = signer.read(ann.token)
    assert_0012_from_every_operation(
        ann, signer.sign({**valid_claims, **invalid_claims}), assert_no_side_effects
    )


def assert_0012_from_every_operation(
    user: UserClient, token: str, assert_no_side_effects: AssertNoSideEffects
) -> None:
    with assert_no_side_effects():
        for path, form in AUTHENTICATED_CALLS:
            response = user.post(path, **{**form, "token": token})
            assert (response.status, response.body) == (200, {"result": "0012", "message": None}), (
                path
            )
    assert user.friends() == []


def test_token_signed_by_another_installation_returns_0012(
    new_hardened_app: Callable[..., App],
    ann: UserClient,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    other_app = new_hardened_app(secrets="another-secret-of-the-tests-long-enough")
    with assert_no_side_effects():
        response = ann.with_app(other_app).post("/list", friendlist="1")
    assert response.result == "0012"
