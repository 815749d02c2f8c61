"""Limits of SMS codes count only what they protect: money, phones, and clients."""

from collections.abc import Callable

import pytest

from tests.support.api import ApiClient, ApiResponse, App, UserClient
from tests.support.database_state import DatabaseState


@pytest.fixture
def new_limited_api(new_app: Callable[..., App]) -> Callable[..., ApiClient]:
    """Function that returns a client of an application with limits of SMS codes."""
    return lambda **limits: ApiClient(
        new_app(**{f"limits__sms_{name}": rule for name, rule in limits.items()})
    )


def request_code(api: ApiClient, phone: str, address: str = "192.0.2.1") -> ApiResponse:
    return api.post_form("/register", {"token": phone}, extra_environ={"REMOTE_ADDR": address})


def forgot(api: ApiClient, phone: str, address: str = "192.0.2.1") -> ApiResponse:
    form = {"forgot": "1", "userId": phone}
    return api.post_form("/log", form, extra_environ={"REMOTE_ADDR": address})


def counts(database_state: DatabaseState) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {}
    for row in database_state.rows("rate_limit_counters"):
        counts.setdefault(row["key"].partition("/")[0], []).append(sum(row["counts"]))
    return counts


def test_resets_of_unknown_phones_from_many_addresses_leave_registration_possible(
    new_limited_api: Callable[..., ApiClient], database_state: DatabaseState
) -> None:
    api = new_limited_api(total="3 per day")
    for n in range(20):
        assert forgot(api, f"138000001{n:02}", f"192.0.2.{n}").result == "0000"
    assert counts(database_state) == {}
    assert request_code(api, "13800000002").result == "0000"


def test_reset_of_an_unknown_phone_is_refused_like_one_of_a_known_phone_at_the_total_limit(
    new_limited_api: Callable[..., ApiClient], ann: UserClient
) -> None:
    api = new_limited_api(total="1 per day")
    assert forgot(api, ann.phone).result == "0000"
    responses = [forgot(api, phone) for phone in (ann.phone, "13800000077")]
    assert [response.error for response in responses] == ["request; reason=rate_limited"] * 2


def test_request_refused_by_the_total_does_not_count_for_the_phone_and_the_address(
    new_limited_api: Callable[..., ApiClient], database_state: DatabaseState
) -> None:
    api = new_limited_api(total="1 per day", phone="2 per day", address="9 per hour")
    assert request_code(api, "13800000001").result == "0000"
    for _ in range(3):
        assert request_code(api, "13800000002").result == "0002"
    assert counts(database_state)["sms_total"] == [1]
    assert sorted(counts(database_state)["sms_phone"]) == [0, 1]
    assert counts(database_state)["sms_address"] == [1]
    database_state.execute("DELETE FROM rate_limit_counters WHERE key LIKE 'sms_total/%'")
    assert request_code(api, "13800000002").result == "0000"


def test_message_that_the_provider_refuses_counts(
    new_app: Callable[..., App], database_state: DatabaseState
) -> None:
    # A provider can charge for a message, or deliver it, although its response is an error.
    app = new_app(
        sms__gateway="tests.support.fake_gateways.FailingSms", limits__sms_total="1 per day"
    )
    api = ApiClient(app)
    assert request_code(api, "13800000001").error == "message; reason=upstream_failed"
    assert request_code(api, "13800000002").error == "request; reason=rate_limited"
    assert counts(database_state) == {"sms_total": [1]}


def test_one_ipv6_site_cannot_use_up_the_total_from_many_networks(
    new_limited_api: Callable[..., ApiClient],
) -> None:
    api = new_limited_api(total="5 per day", network="3 per day", address="1 per hour")
    results = [
        request_code(api, f"138000001{n:02}", f"2001:db8:0:{n:x}00::1").result for n in range(8)
    ]
    assert results == ["0000"] * 3 + ["0002"] * 5
    assert request_code(api, "13800000200", "2001:db8:1::1").result == "0000"
    assert request_code(api, "13800000201", "192.0.2.1").result == "0000"
