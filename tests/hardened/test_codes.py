"""Codes that are not the one, and tickets that are another's."""

from collections.abc import Callable

import pytest

from tests.support.api import Phone
from tests.support.database_state import AssertNoSideEffects, DatabaseState


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda code: "", id="nothing"),
        pytest.param(lambda code: "None", id="None"),
        pytest.param(lambda code: f" {code}", id="a blank before"),
        pytest.param(lambda code: f"{code}\n", id="a line's end after"),
        pytest.param(lambda code: f"0{code}", id="a zero before"),
        pytest.param(lambda code: code.lstrip("0"), id="its number"),
        pytest.param(lambda code: f"+{int(code)}", id="its number with a sign"),
        pytest.param(lambda code: f"{code[:1]}_{code[1:]}", id="a line below"),
        pytest.param(lambda code: f"{code}\0", id="NUL"),
        pytest.param(lambda code: f"{code}.0", id="a fraction"),
        pytest.param(
            lambda code: code.translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
            id="full-width digits",
        ),
        pytest.param(lambda code: code * 10_000, id="40 kB of it"),
    ],
)  # fmt: skip
def test_a_code_is_its_four_digits_and_nothing_like_them(
    spoil: Callable[[str], str], phone_of_ann: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = phone_of_ann.app.registry.services.verification_codes
    monkeypatch.setattr(codes, "new_code", lambda purpose: "0042")
    ticket = phone_of_ann.ask()
    answer = phone_of_ann.post("/register", code_v=ticket, code=spoil("0042"))
    assert (answer.status, answer.body) == (200, {"result": "0004", "message": None})
    assert phone_of_ann.post("/register", code_v=ticket, code="0042").result == "0000"


@pytest.mark.parametrize("form", [{"code": "1234"}, {"code_v": "TICKET"}, {"code_v": ""}], ids=str)
def test_half_a_pair_is_a_wrong_code_and_no_call_for_another(
    form: dict[str, str], phone_of_ann: Phone, assert_no_side_effects: AssertNoSideEffects
) -> None:
    ticket, sent = phone_of_ann.ask(), len(phone_of_ann.sent)
    filled = {name: ticket if value == "TICKET" else value for name, value in form.items()}
    # Beside it stands all that would send another code.
    answer = phone_of_ann.post("/register", **filled, token="13800000007")
    assert answer.result == "0004"
    assert len(phone_of_ann.sent) == sent
    pair = {"code_v": ticket, "code": phone_of_ann.sent[-1]}
    assert phone_of_ann.post("/register", **pair).result == "0000"


def test_a_ticket_is_for_its_own_code_though_the_phone_is_the_same(
    phone_of_ann: Phone, database_state: DatabaseState, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = iter(["1111", "2222"])
    codes = phone_of_ann.app.registry.services.verification_codes
    monkeypatch.setattr(codes, "new_code", lambda purpose: next(new))
    first = phone_of_ann.ask()
    database_state.execute("DELETE FROM rate_limit_windows")  # a minute passes
    second = phone_of_ann.ask()
    assert phone_of_ann.post("/register", code_v=first, code="2222").result == "0004"
    assert phone_of_ann.post("/register", code_v=second, code="1111").result == "0004"
    assert phone_of_ann.post("/register", code_v=second, code="2222").result == "0000"


def test_a_changed_ticket_is_no_try_at_the_code_it_names(
    phone_of_ann: Phone, assert_no_side_effects: AssertNoSideEffects
) -> None:
    ticket = phone_of_ann.ask()
    (code,) = phone_of_ann.sent
    payload, _, signature = ticket.rpartition(".")
    for spoiled in (f"{payload}.{signature[::-1]}", payload, f"{payload}.", ticket * 40):
        with assert_no_side_effects():
            answer = phone_of_ann.post("/register", code_v=spoiled, code=code)
        assert answer.result == "0004"
    assert phone_of_ann.post("/register", code_v=ticket, code=code).result == "0000"
