"""Pictures that are none, that are too much, and that come in a crowd."""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageFile
from webtest import TestApp

from tests.support.api import Api, App, at_once, results
from tests.support.database_state import AssertNoSideEffects, DatabaseState
from tests.support.pictures import HALF, PNG, RED, encoded, png, upload
from tests.support.raw_http import FORM

MULTIPART = "multipart/form-data; boundary=x"


@pytest.fixture
def unlimited(new_hardened_app: Callable[..., App]) -> Api:
    """Who may send any number of pictures."""
    return Api(new_hardened_app(limits__upload=""))


def img(head: bytes, content: bytes = PNG) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="img"' + head + content + b"\r\n--x--\r\n"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"img=me.png", FORM, id="its name"),
        pytest.param(b"img=%89PNG%0d%0a", FORM + "; charset=utf-8", id="its first bytes"),
        pytest.param(img(b"\r\n\r\n", b"me.png"), MULTIPART, id="a field without a file's name"),
        pytest.param(img(b'; filename=""\r\n\r\n', b""), MULTIPART, id="no name and no content"),
        pytest.param(img(b'; filename=""\r\n\r\n'), MULTIPART, id="no name"),
        pytest.param(img(b'; filename="a.png"\r\n\r\n', b""), MULTIPART, id="no content"),
        pytest.param(img(b'; filename="a.png"\r\n\r\n', b"x"), MULTIPART, id="one byte"),
        pytest.param(
            img(
                b"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n",
                b'--y\r\nContent-Disposition: file; filename="a.png"\r\n\r\nx\r\n--y--',
            ),
            MULTIPART,
            id="a form within a form",
        ),
        pytest.param(img(b'; filename="a.png"\r\n\r\n')[:-40], MULTIPART, id="half of it"),
        pytest.param(
            img(b'; filename="a.png"\r\n\r\n').replace(b"x--\r\n", b"x\r\n")
            + img(b'; filename="b.png"\r\n\r\n')[3:],
            MULTIPART,
            id="two of them",
        ),
    ],
)  # fmt: skip
def test_what_is_no_file_leaves_none(
    body: bytes, content_type: str, api: Api, assert_no_side_effects: AssertNoSideEffects
) -> None:
    with assert_no_side_effects():
        answer = api.send_bytes("/upload", body, content_type)
    # What is no form at all is no call; the rest is a call without a picture.
    assert (answer.status, answer.result) in [(200, "0006"), (400, "0003")]
    assert upload(api, PNG).result == "0000"


@pytest.mark.parametrize("side", [4097, 10_000, 20_000])
def test_a_picture_of_too_many_pixels_is_never_read(
    side: int,
    api: Api,
    assert_no_side_effects: AssertNoSideEffects,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[object] = []
    load = ImageFile.ImageFile.load

    def watched(self: ImageFile.ImageFile) -> object:
        read.append(self.size)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    with assert_no_side_effects():
        answer = upload(api, png(side, side))
    assert answer.body == {"result": "0006", "message": None}
    assert read == []
    assert upload(api, PNG).result == "0000"
    assert read != []


@pytest.mark.parametrize(
    ("content", "name", "kept_as"),
    [
        pytest.param(encoded(HALF, "PNG"), "me.jpg", "image/png", id="a PNG named .jpg"),
        pytest.param(encoded(RED, "JPEG"), "me.png", "image/jpeg", id="a JPEG named .png"),
        pytest.param(PNG + b"<?php", "me.php", "image/jpeg", id="a program behind a picture"),
        pytest.param(PNG, "../../etc/passwd", "image/jpeg", id="a name that climbs"),
        pytest.param(PNG, "n" * 3000, "image/jpeg", id="a name of 3000 letters"),
        pytest.param(PNG, "a\0.png", "image/jpeg", id="a name with NUL"),
    ],
)
def test_a_picture_is_what_it_holds_and_not_what_it_is_called(
    content: bytes, name: str, kept_as: str, api: Api, var_dir: Path
) -> None:
    answer = upload(api, content, name)
    assert answer.result == "0000"
    shown = TestApp(api.app).get(urlsplit(answer.message).path)
    assert shown.content_type == kept_as
    assert Image.MIME[Image.open(BytesIO(shown.body)).format or ""] == kept_as
    assert b"php" not in shown.body
    (kept,) = (var_dir / "pictures").rglob("*.*")
    assert kept.name in ("picture.jpg", "picture.png")


def test_the_same_one_forty_times_at_once_is_forty(
    unlimited: Api, database_state: DatabaseState, var_dir: Path
) -> None:
    answers = at_once(*[partial(upload, unlimited, PNG)] * 40)
    assert results(answers) == ["0000"] * 40
    files = {f"{file.parent.name}/{file.name}" for file in (var_dir / "pictures").rglob("*.*")}
    kept = {
        "/".join(str(row["location"]).split("/")[-2:]) for row in database_state.rows("pictures")
    }
    assert files == kept
    assert len(kept) == 40


def test_a_folder_that_is_not_there_is_0006_until_it_is(
    unlimited: Api, var_dir: Path, assert_no_side_effects: AssertNoSideEffects
) -> None:
    folder = var_dir / "pictures"
    # Not a missing one, which would be made; and root may write into any.
    folder.rmdir()
    folder.write_text("in the way")
    with assert_no_side_effects():
        answer = upload(unlimited, PNG)
    assert (answer.result, answer.refusal) == ("0006", "img could not be kept")
    folder.unlink()
    assert upload(unlimited, PNG).result == "0000"


def test_a_picture_that_nobody_claims_is_gone_after_a_day(
    unlimited: Api, database_state: DatabaseState, var_dir: Path
) -> None:
    upload(unlimited, PNG)
    database_state.execute("UPDATE pictures SET created_at = now() - interval '24 hours 1 second'")
    kept = upload(unlimited, PNG).message
    assert unlimited.app.registry.services.avatars.sweep() == 1
    assert [row["location"] for row in database_state.rows("pictures")] == [kept]
    assert len(list((var_dir / "pictures").rglob("*.*"))) == 1
