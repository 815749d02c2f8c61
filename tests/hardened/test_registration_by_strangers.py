"""Tests of attackers who register the phone that its user is verifying.

The app sends the verification and the registration as two requests, and only the phone number
connects them.
"""

from collections.abc import Callable

import pytest

from tests.support.api import PASSWORD, ApiResponse, App, PhoneClient
from tests.support.database_state import DatabaseState

ATTACKERS = [f"203.0.113.{n}" for n in range(1, 101)]
NEW_ADDRESS = "198.51.100.7"
REFUSED = ("0006", "userId; reason=phone_not_verified")


@pytest.fixture
def phone(phone_of_ann: PhoneClient) -> PhoneClient:
    return phone_of_ann


def register(phone: PhoneClient, address: str, password: str = PASSWORD) -> ApiResponse:
    form = {"register": "1", "userId": phone.number, "password": password}
    return phone.post_form("/register", form, extra_environ={"REMOTE_ADDR": address})


def verify(phone: PhoneClient, address: str) -> None:
    form = {"code_v": phone.request_code(), "code": phone.received_codes[-1]}
    response = phone.post_form("/register", form, extra_environ={"REMOTE_ADDR": address})
    assert response.result == "0000", response


def outcome(response: ApiResponse) -> tuple[str, str | None]:
    return response.result, response.error


@pytest.mark.parametrize("attacker_count", [1, 10, 100])
def test_attackers_who_poll_never_register_the_phone_and_its_user_does(
    attacker_count: int, phone: PhoneClient
) -> None:
    attackers = ATTACKERS[:attacker_count]
    for address in attackers:
        assert outcome(register(phone, address, "attacker-42")) == REFUSED
    verify(phone, "192.0.2.1")
    for _ in range(2):
        for address in attackers:
            assert outcome(register(phone, address, "attacker-42")) == REFUSED
    assert register(phone, "192.0.2.1").result == "0000"
    assert phone.log_in(phone.number)


@pytest.mark.parametrize("attacker_count", [0, 1, 2])
def test_user_whose_address_changes_registers_at_once_although_two_attackers_poll(
    attacker_count: int, phone: PhoneClient
) -> None:
    for address in ATTACKERS[:attacker_count] * 3:
        assert outcome(register(phone, address)) == REFUSED
    verify(phone, "192.0.2.1")
    for address in ATTACKERS[:attacker_count]:
        assert outcome(register(phone, address)) == REFUSED
    assert register(phone, NEW_ADDRESS).result == "0000"


def test_user_whose_address_changes_during_an_attack_verifies_again_and_registers(
    phone: PhoneClient, database_state: DatabaseState
) -> None:
    for address in ATTACKERS[:3]:
        register(phone, address)
    verify(phone, "192.0.2.1")
    assert outcome(register(phone, NEW_ADDRESS)) == REFUSED
    # Resets the rate limit of one code per minute.
    database_state.execute("DELETE FROM rate_limit_counters WHERE key LIKE 'sms_phone/60/%'")
    verify(phone, NEW_ADDRESS)
    assert outcome(register(phone, ATTACKERS[3])) == REFUSED
    assert register(phone, NEW_ADDRESS).result == "0000"


def test_address_that_did_not_try_before_can_correct_its_registration(phone: PhoneClient) -> None:
    verify(phone, "192.0.2.1")
    form = {"register": "1", "userId": phone.number, "password": PASSWORD, "headImage": "/unknown"}
    for _ in range(3):
        response = phone.post_form("/register", form, extra_environ={"REMOTE_ADDR": NEW_ADDRESS})
        assert outcome(response) == ("0006", "headImage; reason=unknown_picture")
    assert register(phone, NEW_ADDRESS).result == "0000"


def test_refused_registration_does_not_count_again_and_keeps_the_verification(
    phone: PhoneClient, database_state: DatabaseState
) -> None:
    for address in ATTACKERS[:3]:
        register(phone, address)
    verify(phone, "192.0.2.1")

    def counts() -> list[object]:
        return [
            row["counts"]
            for row in database_state.rows("rate_limit_counters")
            if row["key"].startswith("unverified_")
        ]

    counts_before = counts()
    with database_state.assert_unchanged():
        for address in ATTACKERS[:5]:
            register(phone, address)
    assert [count for count in counts() if count] == [count for count in counts_before if count]


def test_devices_of_one_ipv6_network_have_one_address(phone: PhoneClient) -> None:
    for address in ATTACKERS[:3]:
        register(phone, address)
    verify(phone, "2001:db8:1:2::1")
    assert outcome(register(phone, "2001:db8:1:3::1")) == REFUSED
    assert register(phone, "2001:db8:1:2::ffff").result == "0000"


def test_phone_that_release_0_2_verified_can_be_registered(
    phone: PhoneClient, database_state: DatabaseState
) -> None:
    verify(phone, "192.0.2.1")
    database_state.execute("UPDATE verification_codes SET verified_from = NULL")
    assert register(phone, "192.0.2.1").result == "0000"


def test_database_has_only_a_digest_of_the_address_that_verified_the_phone(
    phone: PhoneClient, database_state: DatabaseState
) -> None:
    verify(phone, "192.0.2.1")
    (row,) = database_state.rows("verification_codes")
    assert len(row["verified_from"]) == 32
    assert "192.0.2.1" not in str(row)


def test_password_reset_stores_no_address(
    phone: PhoneClient, database_state: DatabaseState
) -> None:
    phone.register()
    database_state.execute("DELETE FROM rate_limit_counters")
    ticket = phone.post("/log", forgot="1", userId=phone.number).message
    form = {"code_v": ticket, "code": phone.received_codes[-1], "password": "another-harbour-7"}
    assert phone.post("/log", reset="1", userId=phone.number, **form).result == "0000"
    assert [
        row["purpose"] for row in database_state.rows("verification_codes") if row["verified_from"]
    ] == ["register"]


def test_registrations_without_limits_are_not_counted(
    new_hardened_app: Callable[..., App], database_state: DatabaseState
) -> None:
    app = new_hardened_app(
        limits__unverified_phone="",
        limits__unverified_phone_address="",
        limits__unverified_address="",
    )
    phone = PhoneClient(app, "13800000001")
    for address in ATTACKERS[:5]:
        assert outcome(register(phone, address)) == REFUSED
    verify(phone, "192.0.2.1")
    assert register(phone, NEW_ADDRESS).result == "0000"


def test_registrations_of_many_unverified_phones_from_one_address_are_limited(
    hardened_app: App, database_state: DatabaseState
) -> None:
    for n in range(30):
        register(PhoneClient(hardened_app, f"138000004{n:02}"), ATTACKERS[0])
    counters = [row for row in database_state.rows("rate_limit_counters") if row["counts"]]
    names = sorted(row["key"].partition("/")[0] for row in counters)
    names = [name for name in names if name.startswith("unverified_")]
    expected = (
        ["unverified_address"] + ["unverified_phone"] * 20 + ["unverified_phone_address"] * 20
    )
    assert names == expected
