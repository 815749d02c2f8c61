"""Tests of public ids, which strangers see instead of phone numbers."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from livebackend.api.parameter_types import PUBLIC_ID
from livebackend.database.engine import Database
from tests.support.api import PASSWORD, ApiClient, App, UserClient, openapi_document
from tests.support.database_state import DatabaseState

PHONE = re.compile(r"\b1[0-9]{10}\b")
UNKNOWN_ID = "u_0123456789abcdef0123"


def public_id(user: UserClient) -> str:
    response = user.post("/register", profile="1")
    assert response.result == "0000", response
    return str(response.message["publicId"])


def test_accounts_have_different_random_public_ids(ann: UserClient, ben: UserClient) -> None:
    ids = {public_id(ann), public_id(ben)}
    assert len(ids) == 2
    assert all(re.fullmatch(PUBLIC_ID, user_id) for user_id in ids)


def test_public_id_stays_the_same(ann: UserClient) -> None:
    first_id = public_id(ann)
    response = ann.post("/register", profile="1", nickname="Anna")
    assert response.message["publicId"] == first_id
    assert response.message["userId"] == ann.phone


def test_account_that_the_previous_release_inserts_gets_a_public_id(database: Database) -> None:
    with database.engine.begin() as connection:
        inserted_id = connection.exec_driver_sql(
            "INSERT INTO accounts (phone, password_hash) VALUES ('13800000009', 'x')"
            " RETURNING public_id"
        ).scalar_one()
    assert re.fullmatch(PUBLIC_ID, inserted_id)


def test_extension_that_shows_strangers_shows_no_phone_number(
    ann: UserClient, ben: UserClient
) -> None:
    ann.go_live(title="hello")
    ben.refill("10")
    ben.send_gift(ann, "1")
    (room,) = ben.post("/list", livelist="1").message["rooms"]
    assert room["publicId"] == public_id(ann)
    assert "userId" not in room
    (record,) = ann.post("/golden", records="1").message["records"]
    assert (record["publicId"], record["nickname"]) == (public_id(ben), "Ben")
    (giver,) = ann.post("/golden", ranking="1", object=ann.phone).message
    assert giver["publicId"] == public_id(ben)
    for shown in (room, record, giver):
        assert not PHONE.search(json.dumps(shown))


def property_names(schema: Any, schemas: dict[str, Any]) -> set[str]:
    """Return the names of all properties of a JSON Schema and of the schemas that it refers to."""
    if isinstance(schema, list):
        return set().union(*(property_names(item, schemas) for item in schema))
    if not isinstance(schema, dict):
        return set()
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    inner_names = (property_names(value, schemas) for value in schema.values())
    return set(schema.get("properties", {})).union(*inner_names)


def test_no_extension_declares_a_phone_number_of_another_user(app: App) -> None:
    schemas = openapi_document(app.registry)["components"]["schemas"]
    responses_with_user_id = {
        name
        for name, schema in schemas.items()
        if name.endswith("Response") and "userId" in property_names(schema, schemas)
    }
    # The API document has the first three, and the last one is the user's own profile.
    assert responses_with_user_id == {
        *("FriendlistResponse", "MessagelistResponse", "SearchResponse"),
        "ChangeProfileResponse",
    }


def test_gift_ranking_and_block_accept_a_public_id(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ben.refill("10")
    gift = {"value": "3", "description": "a rose", "object": public_id(ann)}
    assert ben.post("/golden", send_gift="1", **gift).result == "0000"
    assert database_state.coins(ann) == 3
    (giver,) = ben.post("/golden", ranking="1", object=public_id(ann)).message
    assert giver["coins"] == 3
    ann.befriend(ben)
    assert ann.post("/friend", block="1", userId=public_id(ben)).result == "0000"
    assert ann.friends() == []
    assert ann.post("/friend", add="1", userId=ben.phone).error == "userId; reason=user_blocked"
    assert ann.post("/friend", unblock="1", userId=public_id(ben)).result == "0000"
    assert ann.post("/friend", add="1", userId=ben.phone).result == "0000"


def test_gift_with_phone_and_retry_with_public_id_moves_the_coins_once(
    ann: UserClient, ben: UserClient, database_state: DatabaseState
) -> None:
    ben.refill("10")
    gift = {"send_gift": "1", "value": "3", "description": "a rose", "requestId": "gift-1"}
    assert ben.post("/golden", **gift, object=ann.phone).result == "0000"
    assert ben.post("/golden", **gift, object=public_id(ann)).result == "0000"
    assert database_state.coins(ann) == 3


@pytest.mark.parametrize(
    ("path", "form", "result"),
    [
        ("/golden", {"send_gift": "1", "value": "1", "description": "x"}, "0013"),
        ("/golden", {"ranking": "1"}, "0013"),
        ("/friend", {"block": "1"}, "0007"),
        ("/friend", {"unblock": "1"}, "0007"),
    ],
)
class TestOperationsWithPublicIds:
    @pytest.fixture
    def parameter(self, path: str) -> str:
        return "object" if path == "/golden" else "userId"

    def test_unknown_public_id_is_an_unknown_user(
        self, path: str, form: dict[str, str], result: str, parameter: str, ann: UserClient
    ) -> None:
        response = ann.post(path, **form, **{parameter: UNKNOWN_ID})
        assert (response.result, response.error) == (result, f"{parameter}; reason=unknown_user")

    @pytest.mark.parametrize(
        "change_id",
        [str.upper, lambda i: i[2:], lambda i: i + "0", lambda i: i + "\n", lambda i: f" {i}"],
    )
    def test_other_spelling_of_a_public_id_is_no_user_id(
        self,
        path: str,
        form: dict[str, str],
        result: str,
        parameter: str,
        change_id: Callable[[str], str],
        ann: UserClient,
        ben: UserClient,
    ) -> None:
        response = ann.post(path, **form, **{parameter: change_id(public_id(ben))})
        assert (response.result, response.error) == (
            result,
            f"{parameter}; reason=not_a_phone_number",
        )

    def test_public_id_of_a_removed_account_is_an_unknown_user(
        self,
        path: str,
        form: dict[str, str],
        result: str,
        parameter: str,
        ann: UserClient,
        ben: UserClient,
        database_state: DatabaseState,
    ) -> None:
        old_id = public_id(ben)
        assert ben.post("/register", remove="1", password=PASSWORD).result == "0000"
        new_id = next(
            row["public_id"] for row in database_state.rows("accounts") if row["phone"] is None
        )
        assert new_id != old_id
        for removed_id in (old_id, new_id):
            response = ann.post(path, **form, **{parameter: removed_id})
            assert (response.result, response.error) == (
                result,
                f"{parameter}; reason=unknown_user",
            )


@pytest.mark.parametrize("operation", ["search", "add", "delete"])
def test_public_id_finds_no_phone_number(operation: str, ann: UserClient, ben: UserClient) -> None:
    # These operations, or the lists after them, would show the phone number of the user.
    response = ann.post("/friend", **{operation: "1"}, userId=public_id(ben))
    assert response.error == "userId; reason=not_a_phone_number"


def test_own_public_id_is_the_own_account(ann: UserClient) -> None:
    response = ann.post("/friend", block="1", userId=public_id(ann))
    assert (response.result, response.error) == ("0006", "userId; reason=own_account")


def test_records_and_ranking_show_no_public_id_of_a_removed_account(
    ann: UserClient, ben: UserClient
) -> None:
    ben.refill("10")
    ben.send_gift(ann, "1")
    ben.post("/register", remove="1", password=PASSWORD)
    (record,) = ann.post("/golden", records="1").message["records"]
    (giver,) = ann.post("/golden", ranking="1", object=ann.phone).message
    assert (record["publicId"], record["nickname"]) == (None, None)
    assert (giver["publicId"], giver["nickname"], giver["coins"]) == (None, None, 1)


def test_retry_of_a_gift_to_a_removed_host_by_public_id_succeeds(
    ann: UserClient, ben: UserClient, api: ApiClient
) -> None:
    ben.refill("10")
    gift = {"value": "3", "description": "a rose", "object": public_id(ann), "requestId": "gift-1"}
    assert ben.post("/golden", send_gift="1", **gift).result == "0000"
    ann.post("/register", remove="1", password=PASSWORD)
    assert ben.post("/golden", send_gift="1", **gift).result == "0000"
    other_gift = {**gift, "requestId": "gift-2"}
    assert ben.post("/golden", send_gift="1", **other_gift).error == "object; reason=unknown_user"
