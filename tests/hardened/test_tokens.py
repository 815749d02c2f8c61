"""Login tokens that are not what they should be, at every call that needs one."""

import base64
import hashlib
import hmac
import json
import string
from collections.abc import Callable
from typing import Any

import pytest

from livebackend.core.signing import Signer
from tests.support.api import App, Person
from tests.support.authenticated_calls import AUTHENTICATED_CALLS
from tests.support.database_state import AssertNoSideEffects
from tests.support.servers import HARDENED_SECRET, hardened

SECRET = hardened("")["secrets"]


def other(character: str) -> str:
    return "B" if character == "A" else "A"


def changed(token: str, at: int) -> str:
    return token[:at] + other(token[at]) + token[at + 1 :]


def in_base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwt(token: str, algorithm: str) -> str:
    """What our token says, as another kind of token."""
    head = in_base64(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    signed = f"{head}.{token.partition('.')[0]}"
    digest = hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{in_base64(digest) if algorithm == 'HS256' else ''}"


def full_width(token: str) -> str:
    return token.translate({ord(sign): ord(sign) + 0xFEE0 for sign in string.digits})


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda token: "", id="nothing"),
        pytest.param(lambda token: changed(token, 5), id="another payload"),
        pytest.param(lambda token: changed(token, -5), id="another signature"),
        pytest.param(lambda token: token.partition(".")[0], id="no signature"),
        pytest.param(lambda token: token.partition(".")[0] + ".", id="an empty signature"),
        pytest.param(full_width, id="full-width digits"),
        pytest.param(lambda token: f"Bearer {token}", id="a bearer's"),
        pytest.param(lambda token: jwt(token, "none"), id="a JWT that nobody signed"),
        pytest.param(lambda token: jwt(token, "HS256"), id="a JWT that our secret signed"),
        pytest.param(lambda token: "x" * 60_000, id="60 kB"),
        pytest.param(lambda token: token + "\0", id="a NUL after it"),
    ],
)  # fmt: skip
def test_a_forged_token_is_0012_at_every_call(
    forge: Callable[[str], str],
    ann: Person,
    ben: Person,
    assert_no_side_effects: AssertNoSideEffects,
) -> None:
    refuse_everywhere(ann, forge(ann.token), assert_no_side_effects)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"sub": [1]}, id="a list for an account"),
        pytest.param({"sub": "1"}, id="text for an account"),
        pytest.param({"sub": 1.0}, id="a fraction for an account"),
        pytest.param({"sub": 10**30}, id="an account beyond all numbers"),
        pytest.param({"sub": -1}, id="an account below all numbers"),
        pytest.param({"v": None}, id="no version"),
        pytest.param({"v": 10**30}, id="another version"),
        pytest.param({"jti": 7}, id="a number for its name"),
        pytest.param({"typ": "code"}, id="another purpose"),
        pytest.param({"exp": "tomorrow"}, id="text for a time"),
    ],
)
def test_even_one_that_we_signed_is_0012_when_it_says_nonsense(
    claims: dict[str, Any], ann: Person, ben: Person, assert_no_side_effects: AssertNoSideEffects
) -> None:
    signer = Signer([HARDENED_SECRET], kind="login")
    genuine = signer.read(ann.token)
    refuse_everywhere(ann, signer.sign({**genuine, **claims}), assert_no_side_effects)


def refuse_everywhere(
    person: Person, token: str, assert_no_side_effects: AssertNoSideEffects
) -> None:
    with assert_no_side_effects():
        for path, form in AUTHENTICATED_CALLS:
            answer = person.post(path, **{**form, "token": token})
            assert (answer.status, answer.body) == (200, {"result": "0012", "message": None}), path
    assert person.friends() == []


def test_the_same_token_in_another_spelling_is_the_same_token(ann: Person) -> None:
    # The last sign of base64 has two bits to spare: four spellings are one signature.
    signs = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    first = signs.index(ann.token[-1]) // 4 * 4
    spellings = [ann.token[:-1] + sign for sign in signs[first : first + 4]] + [ann.token + "="]
    for token in spellings:
        assert ann.post("/list", friendlist="1", token=token).result == "0000"
    assert ann.post("/log", logout="1", token=spellings[-1]).result == "0000"
    for token in spellings:
        assert ann.post("/list", friendlist="1", token=token).result == "0012"


def test_a_token_of_another_installation_is_0012(
    new_hardened_app: Callable[..., App], ann: Person, assert_no_side_effects: AssertNoSideEffects
) -> None:
    elsewhere = new_hardened_app(secrets="another-secret-of-the-tests-long-enough")
    with assert_no_side_effects():
        answer = Person(elsewhere, ann.always, ann.phone).post("/list", friendlist="1")
    assert answer.result == "0012"
