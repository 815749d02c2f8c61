"""Tests of invalid, oversized, concurrent and unused uploads."""

import struct
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from webtest import TestApp

from tests.support.api import ApiClient, App, run_concurrently, sorted_results
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.pictures import (
    PNG,
    RED,
    TRANSLUCENT,
    encode_image,
    jpeg_with_scans,
    one_bit_png,
    upload,
)
from tests.support.raw_http import FORM

MULTIPART = "multipart/form-data; boundary=x"


@pytest.fixture
def unlimited_api(new_hardened_app: Callable[..., App]) -> ApiClient:
    """A client of an application without a rate limit on uploads."""
    return ApiClient(new_hardened_app(limits__upload=""))


def img_form(header_end: bytes, content: bytes = PNG) -> bytes:
    """Return a multipart form that has one part.

    In the headers of the part, `header_end` follows `name="img"`.
    """
    return (
        b'--x\r\nContent-Disposition: form-data; name="img"'
        + header_end
        + content
        + b"\r\n--x--\r\n"
    )


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"img=me.png", FORM, id="file name as a field"),
        pytest.param(b"img=%89PNG%0d%0a", FORM + "; charset=utf-8", id="file content as a field"),
        pytest.param(img_form(b"\r\n\r\n", b"me.png"), MULTIPART, id="field without a filename"),
        pytest.param(
            img_form(b'; filename=""\r\n\r\n', b""), MULTIPART, id="empty name and content"
        ),
        pytest.param(img_form(b'; filename=""\r\n\r\n'), MULTIPART, id="empty filename"),
        pytest.param(img_form(b'; filename="a.png"\r\n\r\n', b""), MULTIPART, id="no content"),
        pytest.param(img_form(b'; filename="a.png"\r\n\r\n', b"x"), MULTIPART, id="one byte"),
        pytest.param(
            img_form(
                b"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n",
                b'--y\r\nContent-Disposition: file; filename="a.png"\r\n\r\nx\r\n--y--',
            ),
            MULTIPART,
            id="nested multipart form",
        ),
        pytest.param(img_form(b'; filename="a.png"\r\n\r\n')[:-40], MULTIPART, id="truncated body"),
        pytest.param(
            img_form(b'; filename="a.png"\r\n\r\n').replace(b"x--\r\n", b"x\r\n")
            + img_form(b'; filename="b.png"\r\n\r\n')[3:],
            MULTIPART,
            id="two files",
        ),
    ],
)  # fmt: skip
def test_upload_without_a_valid_file_stores_nothing(
    body: bytes, content_type: str, api: ApiClient, assert_no_side_effects: AssertNoSideEffects
) -> None:
    with assert_no_side_effects():
        response = api.post_bytes("/upload", body, content_type)
    # A malformed form is an invalid request; a valid form without a picture is a failed upload.
    assert (response.status, response.result) in [(200, "0006"), (400, "0003")]
    assert upload(api, PNG).result == "0000"


@pytest.mark.parametrize(
    "content",
    [
        *[pytest.param(one_bit_png(n, n), id=f"{n} × {n} pixels") for n in (4097, 10_000, 20_000)],
        pytest.param(jpeg_with_scans(10_000, (2048, 2048)), id="10,000 scans"),
    ],
)
def test_upload_of_a_hostile_picture_returns_0006(
    content: bytes, api: ApiClient, assert_no_side_effects: AssertNoSideEffects
) -> None:
    with assert_no_side_effects():
        response = upload(api, content)
    assert response.body == {"result": "0006", "message": None}
    assert response.error == "img; reason=not_an_image"
    assert upload(api, PNG).result == "0000"


def test_upload_of_a_picture_with_damaged_exif_succeeds(api: ApiClient) -> None:
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x010F, 1, 1) + bytes(range(8))
    for content in (encode_image(RED, "JPEG", exif=exif), encode_image(RED, "PNG", exif=exif)):
        assert upload(api, content).result == "0000"


@pytest.mark.parametrize(
    ("content", "name", "expected_type"),
    [
        pytest.param(encode_image(TRANSLUCENT, "PNG"), "me.jpg", "image/png", id="PNG named .jpg"),
        pytest.param(encode_image(RED, "JPEG"), "me.png", "image/jpeg", id="JPEG named .png"),
        pytest.param(PNG + b"<?php", "me.php", "image/jpeg", id="PHP code after the picture"),
        pytest.param(PNG, "../../etc/passwd", "image/jpeg", id="file name with parent folders"),
        pytest.param(PNG, "n" * 3000, "image/jpeg", id="file name of 3000 letters"),
        pytest.param(PNG, "a\0.png", "image/jpeg", id="file name with NUL"),
    ],
)
def test_stored_picture_type_depends_on_the_content_and_not_on_the_file_name(
    content: bytes, name: str, expected_type: str, api: ApiClient, data_dir: Path
) -> None:
    response = upload(api, content, name)
    assert response.result == "0000"
    picture_response = TestApp(api.app).get(urlsplit(response.message).path)
    assert picture_response.content_type == expected_type
    assert Image.MIME[Image.open(BytesIO(picture_response.body)).format or ""] == expected_type
    assert b"php" not in picture_response.body
    (stored_file,) = (data_dir / "pictures").rglob("*.*")
    assert stored_file.name in ("picture.jpg", "picture.png")


def test_forty_concurrent_uploads_of_one_picture_store_forty_pictures(
    unlimited_api: ApiClient, database_state: DatabaseState, data_dir: Path
) -> None:
    responses = run_concurrently(*[partial(upload, unlimited_api, PNG)] * 40)
    assert sorted_results(responses) == ["0000"] * 40
    files = {f"{file.parent.name}/{file.name}" for file in (data_dir / "pictures").rglob("*.*")}
    locations = {
        "/".join(str(row["location"]).split("/")[-2:]) for row in database_state.rows("pictures")
    }
    assert files == locations
    assert len(locations) == 40


def test_upload_when_the_pictures_folder_is_unusable_returns_0006(
    unlimited_api: ApiClient, data_dir: Path, assert_no_side_effects: AssertNoSideEffects
) -> None:
    folder = data_dir / "pictures"
    # The test replaces the folder with a file. It does not delete the folder or change its
    # permissions: the server creates a missing folder, and root ignores permissions.
    folder.rmdir()
    folder.write_text("not a folder")
    with assert_no_side_effects():
        response = upload(unlimited_api, PNG)
    assert (response.result, response.error) == ("0006", "img; reason=picture_not_stored")
    folder.unlink()
    assert upload(unlimited_api, PNG).result == "0000"


def test_housekeeping_deletes_pictures_unused_for_a_day(
    unlimited_api: ApiClient, database_state: DatabaseState, data_dir: Path
) -> None:
    upload(unlimited_api, PNG)
    database_state.execute("UPDATE pictures SET created_at = now() - interval '24 hours 1 second'")
    newer_picture = upload(unlimited_api, PNG).message
    assert unlimited_api.app.registry.services.avatars.delete_unused() == 1
    assert [row["location"] for row in database_state.rows("pictures")] == [newer_picture]
    assert len(list((data_dir / "pictures").rglob("*.*"))) == 1
