"""`livebackend user` shows and changes accounts, with immediate effect on users."""

import re
from typing import Any

import pytest

from livebackend.container import Services
from livebackend.core.errors import TokenInvalid
from livebackend.gateways.streams import Stream
from tests.support.api import ApiClient, UserClient
from tests.support.commands import Operator
from tests.support.database_state import DatabaseState

COMMANDS = ("show", "disable", "enable", "revoke", "reset-password")


def test_show_prints_all_data_of_an_account(
    operator: Operator, ann: UserClient, ben: UserClient
) -> None:
    ann.befriend(ben)
    ann.refill("50")
    ann.go_live(title="hello")
    account = operator.run_json("user show", ann.phone)
    assert account["phone"] == ann.phone
    assert (account["nickname"], account["friends"], account["coins"]) == ("Ann", 1, 50)
    assert account["room_id"] is not None
    assert account["disabled_at"] is None
    text = operator.run("user show", ann.phone).stdout
    assert re.search(rf"^phone +{ann.phone}$", text, re.MULTILINE)
    assert re.search(r"^coins +50$", text, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_public_id_identifies_the_account(
    command: str, operator: Operator, ann: UserClient, ben: UserClient
) -> None:
    account = operator.run_json("user show", ann.phone)
    result = operator.run_json(f"user {command}", account["public_id"])
    assert result["id"] == account["id"]


def test_disabled_account_is_logged_out_and_cannot_log_in(
    operator: Operator,
    api: ApiClient,
    ann: UserClient,
    ben: UserClient,
    database_state: DatabaseState,
) -> None:
    ann.befriend(ben)
    ann.go_live()
    result = operator.run_json("user disable", ann.phone)
    assert result["changed"] is True
    assert ann.post("/list", friendlist="1").result == "0012"
    assert api.post("/log", userId=ann.phone, password="harbour-42").result == "0008"
    assert ben.friends()[0]["liveStatus"] == "off"
    (room,) = database_state.rows("rooms")
    assert (room["id"], room["close_reason"]) == (result["closed_room"], "operator")
    assert operator.run_json("user disable", ann.phone)["changed"] is False


def test_disable_closes_a_room_that_another_request_is_opening(
    operator: Operator,
    ann: UserClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    database_state: DatabaseState,
) -> None:
    gateway, results = services.gateways.streams, []

    def create_while_the_account_is_disabled(key: str, publish_key: str) -> Stream:
        results.append(operator.run_json("user disable", ann.phone))
        return create(key, publish_key)

    create = gateway.create
    monkeypatch.setattr(gateway, "create", create_while_the_account_is_disabled)
    assert ann.go_live().result == "0009"
    (room,) = database_state.rows("rooms")
    assert (room["state"], room["close_reason"]) == ("closed", "operator")
    assert results[0]["closed_room"] == room["id"]
    assert room["disabled_at"] is not None


def test_request_that_a_disabled_account_sent_earlier_opens_no_room(
    operator: Operator, ann: UserClient, services: Services, database_state: DatabaseState
) -> None:
    account_id = operator.run_json("user show", ann.phone)["id"]
    operator.run("user disable", ann.phone)
    # The request authenticated its token before the account was disabled.
    with pytest.raises(TokenInvalid):
        services.rooms.go_live(account_id, title=None)
    assert database_state.rows("rooms") == []


def test_enabled_account_can_log_in_but_its_old_tokens_stay_revoked(
    operator: Operator, api: ApiClient, ann: UserClient
) -> None:
    assert operator.run_json("user enable", ann.phone)["changed"] is False
    operator.run("user disable", ann.phone)
    assert operator.run_json("user enable", ann.phone)["changed"] is True
    assert ann.post("/list", friendlist="1").result == "0012"
    assert api.log_in(ann.phone).friends() == []


def test_revoke_command_revokes_every_token_and_keeps_the_password(
    operator: Operator, api: ApiClient, ann: UserClient
) -> None:
    second_login = api.log_in(ann.phone)
    operator.run("user revoke", ann.phone)
    assert {login.post("/list", friendlist="1").result for login in (ann, second_login)} == {"0012"}
    assert api.log_in(ann.phone).friends() == []


def test_reset_password_prints_a_new_password_that_replaces_the_old_one(
    operator: Operator, api: ApiClient, ann: UserClient
) -> None:
    password = operator.run_json("user reset-password", ann.phone)["password"]
    assert re.fullmatch("[a-z]{4}-[a-z]{4}-[a-z]{4}-[2-9]{2}", password)
    assert ann.post("/list", friendlist="1").result == "0012"
    assert api.post("/log", userId=ann.phone, password="harbour-42").result == "0008"
    response = api.post("/log", userId=ann.phone, password=password)
    assert response.result == "0000"
    change_response = api.post(
        "/log", change="1", token=response.message, oldPassword=password, password="harbour-43"
    )
    assert change_response.result == "0000"


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_phone_is_an_error_and_changes_nothing(
    command: str, operator: Operator, ann: UserClient, database_state: DatabaseState
) -> None:
    with database_state.assert_unchanged():
        result = operator.run(f"user {command}", "13800000009", code=1)
        assert result.stderr.endswith("Error: no account has this phone number or public ID\n")
        output = operator.run_json(f"user {command}", "13800000009", code=1)
    assert output == {"error": "no account has this phone number or public ID"}


@pytest.mark.parametrize(
    "phone", ["1380000000", "+8613800000001", "１３８００００００１", "ann", ""]
)
def test_invalid_phone_exits_with_2(phone: str, operator: Operator) -> None:
    assert "eleven digits" in operator.run("user show", phone, code=2).stderr


def test_log_contains_the_account_id_but_no_phone(operator: Operator, ann: UserClient) -> None:
    log = operator.run("user revoke", ann.phone).stderr
    assert re.search(r"account \d+: login tokens revoked by an operator", log)
    assert ann.phone not in log
    assert "138****" not in log


BROKEN_GATEWAYS: dict[str, Any] = {
    "sms_gateway": "no.such.Sms",
    "streams_gateway": "livebackend.gateways.streams.NginxRtmpStreams",
    "payments_gateway": "no.such.Payments",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_works_although_no_gateway_can_be_loaded(
    command: str, operator: Operator, ann: UserClient
) -> None:
    assert operator.run_json(f"user {command}", ann.phone, **BROKEN_GATEWAYS)["id"]


def test_disabling_a_user_closes_the_room_although_the_stream_gateway_cannot_be_loaded(
    operator: Operator, ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ann.befriend(ben)
    ann.go_live()
    result = operator.run_json("user disable", ann.phone, **BROKEN_GATEWAYS)
    assert result["changed"]
    assert result["closed_room"]
    (room,) = database_state.rows("rooms")
    # The servers disable the stream later.
    assert (room["close_reason"], room["disabled_at"]) == ("operator", None)


@pytest.mark.parametrize("command", ["room list", "ledger audit", "ledger checkpoint"])
def test_other_commands_that_need_no_gateway_work_without_one(
    command: str, operator: Operator, ann: UserClient
) -> None:
    ann.refill("50")
    operator.run(command, **BROKEN_GATEWAYS)


@pytest.mark.parametrize("command", ["housekeeping", "order reconcile", "doctor"])
def test_commands_that_call_providers_report_every_broken_gateway(
    command: str, operator: Operator
) -> None:
    message = operator.run(command, code=1, **BROKEN_GATEWAYS).stderr
    for name in ("sms.gateway", "streams.gateway", "payments.gateway"):
        assert f"  {name}: " in message


@pytest.mark.parametrize("events_gateway", ["", "no.such.Events"])
def test_user_is_disabled_although_there_is_no_event_engine(
    events_gateway: str, operator: Operator, ann: UserClient
) -> None:
    result = operator.run_json("user disable", ann.phone, events_gateway=events_gateway)
    assert result["changed"]
