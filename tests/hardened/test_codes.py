"""Tests of wrong verification codes and of tickets that do not match the code."""

from collections.abc import Callable

import pytest

from tests.support.api import PhoneClient
from tests.support.database_state import AssertNoSideEffects, DatabaseState


@pytest.mark.parametrize(
    "change_code",
    [
        pytest.param(lambda code: "", id="empty"),
        pytest.param(lambda code: "None", id="None"),
        pytest.param(lambda code: f" {code}", id="leading space"),
        pytest.param(lambda code: f"{code}\n", id="trailing line feed"),
        pytest.param(lambda code: f"0{code}", id="additional leading zero"),
        pytest.param(lambda code: code.lstrip("0"), id="leading zeros removed"),
        pytest.param(lambda code: f"+{int(code)}", id="number with a sign"),
        pytest.param(lambda code: f"{code[:1]}_{code[1:]}", id="underscore between digits"),
        pytest.param(lambda code: f"{code}\0", id="trailing NUL"),
        pytest.param(lambda code: f"{code}.0", id="decimal fraction"),
        pytest.param(
            lambda code: code.translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
            id="full-width digits",
        ),
        pytest.param(lambda code: code * 10_000, id="repeated to 40 kB"),
    ],
)  # fmt: skip
def test_code_that_is_not_exactly_the_four_digits_returns_0004(
    change_code: Callable[[str], str], phone_of_ann: PhoneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = phone_of_ann.app.registry.services.verification_codes
    monkeypatch.setattr(codes, "new_code", lambda purpose: "0042")
    ticket = phone_of_ann.request_code()
    response = phone_of_ann.post("/register", code_v=ticket, code=change_code("0042"))
    assert (response.status, response.body) == (200, {"result": "0004", "message": None})
    assert phone_of_ann.post("/register", code_v=ticket, code="0042").result == "0000"


@pytest.mark.parametrize("form", [{"code": "1234"}, {"code_v": "TICKET"}, {"code_v": ""}], ids=str)
def test_code_without_ticket_or_ticket_without_code_returns_0004_and_sends_no_message(
    form: dict[str, str], phone_of_ann: PhoneClient
) -> None:
    ticket, sent_count = phone_of_ann.request_code(), len(phone_of_ann.received_codes)
    filled_form = {name: ticket if value == "TICKET" else value for name, value in form.items()}
    # A form with only the parameter `token` would request another code; this form must not.
    response = phone_of_ann.post("/register", **filled_form, token="13800000007")
    assert response.result == "0004"
    assert len(phone_of_ann.received_codes) == sent_count
    ticket_and_code = {"code_v": ticket, "code": phone_of_ann.received_codes[-1]}
    assert phone_of_ann.post("/register", **ticket_and_code).result == "0000"


def test_ticket_does_not_verify_another_code_of_the_same_phone(
    phone_of_ann: PhoneClient, database_state: DatabaseState, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_codes = iter(["1111", "2222"])
    codes = phone_of_ann.app.registry.services.verification_codes
    monkeypatch.setattr(codes, "new_code", lambda purpose: next(new_codes))
    first_ticket = phone_of_ann.request_code()
    # Resets the rate limit of one code per minute, so that a second code can be requested.
    database_state.execute("DELETE FROM rate_limit_counters")
    second_ticket = phone_of_ann.request_code()
    assert phone_of_ann.post("/register", code_v=first_ticket, code="2222").result == "0004"
    assert phone_of_ann.post("/register", code_v=second_ticket, code="1111").result == "0004"
    assert phone_of_ann.post("/register", code_v=second_ticket, code="2222").result == "0000"


def test_tampered_ticket_returns_0004_and_counts_no_attempt(
    phone_of_ann: PhoneClient, assert_no_side_effects: AssertNoSideEffects
) -> None:
    ticket = phone_of_ann.request_code()
    (code,) = phone_of_ann.received_codes
    payload, _, signature = ticket.rpartition(".")
    for tampered_ticket in (f"{payload}.{signature[::-1]}", payload, f"{payload}.", ticket * 40):
        with assert_no_side_effects():
            response = phone_of_ann.post("/register", code_v=tampered_ticket, code=code)
        assert response.result == "0004"
    assert phone_of_ann.post("/register", code_v=ticket, code=code).result == "0000"
