"""Keeping a picture, and serving it."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine
from webtest import TestApp

from livebackend.container import Services
from tests.support.api import Api, App
from tests.support.database_state import DatabaseState
from tests.support.pictures import PNG, RED, encoded, upload


def url(location: str) -> str:
    folder, name = Path(location).parts[-2:]
    return f"/pictures/{folder}/{quote(name)}"


class TestUpload:
    def test_the_message_is_the_absolute_path_of_the_bytes(
        self, api: Api, var_dir: Path, database_state: DatabaseState
    ) -> None:
        answer = upload(api, PNG)
        path = Path(answer.message)
        assert answer.body == {"result": "0000", "message": str(path)}
        assert path.read_bytes() == PNG
        assert path.parent.parent == var_dir / "pictures"
        assert re.fullmatch("[0-9a-f]{32}", path.parent.name)
        assert path.name == "me.png"
        assert [row["location"] for row in database_state.rows("pictures")] == [str(path)]

    def test_the_same_name_twice_is_two_pictures(self, api: Api) -> None:
        assert upload(api, b"one").message != upload(api, b"two").message

    def test_any_file_is_kept(self, api: Api) -> None:
        assert Path(upload(api, b"<script>", "a.html").message).read_bytes() == b"<script>"

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("..", "picture"),
            (".htaccess", "htaccess"),
            ("a\tb\x7f.png", "ab.png"),
            ("头像.jpg", "头像.jpg"),
            ("/", "picture"),
            ("...png", "png"),
            ("a.b.png", "a.b.png"),
        ],
    )
    def test_the_name_is_cleaned(self, sent: str, kept: str, api: Api) -> None:
        assert Path(upload(api, PNG, sent).message).name == kept

    @pytest.mark.parametrize("name", ["n" * 500 + ".png", "长" * 300 + ".png"])
    def test_a_long_name_is_cut_and_keeps_its_ending(self, name: str, api: Api) -> None:
        location = upload(api, PNG, name).message
        assert len(location) <= 255
        assert location.endswith(".png")
        assert location[-5] == name[0]

    def test_the_largest_picture_is_kept(self, api: Api) -> None:
        largest = b"x" * 5_242_880
        assert Path(upload(api, largest).message).read_bytes() == largest

    def test_a_larger_one_is_0006(self, api: Api, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            answer = upload(api, b"x" * 5_242_881)
        assert (answer.status, answer.body) == (200, {"result": "0006", "message": None})
        assert answer.refusal == "img is too large"

    def test_an_empty_one_is_0006(self, api: Api, database_state: DatabaseState) -> None:
        with database_state.unchanged():
            answer = upload(api, b"")
        assert answer.body == {"result": "0006", "message": None}

    @pytest.mark.parametrize("form", [{}, {"img": ""}, {"img": "a.png"}, {"other": "x"}])
    def test_no_file_is_0006(
        self, form: dict[str, str], api: Api, database_state: DatabaseState
    ) -> None:
        with database_state.unchanged():
            answer = api.post("/upload", **form)
        assert (answer.status, answer.body) == (200, {"result": "0006", "message": None})

    def test_a_disk_that_refuses_is_0006(
        self, api: Api, database_state: DatabaseState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, mode: str) -> None:
            raise OSError("No space left on device")

        with monkeypatch.context() as patch, database_state.unchanged():
            patch.setattr(Path, "open", full)
            answer = upload(api, PNG)
        assert (answer.result, answer.refusal) == ("0006", "img could not be kept")

    def test_a_file_and_its_row_are_there_both_or_neither(
        self,
        api: Api,
        services: Services,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        nobody_listens = create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/nothing")
        with monkeypatch.context() as patch, database_state.unchanged():
            patch.setattr(services.database, "engine", nobody_listens)
            answer = upload(api, PNG)
        assert (answer.status, answer.result) == (503, "0006")


class TestPictures:
    def get(self, app: App, path: str, **options: object) -> Any:
        return TestApp(app).get(path, status="*", **options)

    @pytest.mark.parametrize(
        ("kind", "media_type"),
        [
            ("PNG", "image/png"),
            ("JPEG", "image/jpeg"),
            ("GIF", "image/gif"),
            ("WEBP", "image/webp"),
        ],
    )
    def test_a_picture_is_shown(self, kind: str, media_type: str, api: Api) -> None:
        content = encoded(RED, kind)
        # Its name may say what it likes.
        answer = self.get(api.app, url(upload(api, content, "头像.txt").message))
        assert (answer.status_int, answer.body) == (200, content)
        assert answer.content_type == media_type
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Content-Disposition" not in answer.headers

    def test_what_is_no_picture_is_saved_and_never_shown(self, api: Api) -> None:
        answer = self.get(api.app, url(upload(api, b"<script>alert(1)</script>", "a.png").message))
        assert answer.content_type == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == "attachment"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_head_sends_no_body(self, api: Api) -> None:
        answer = TestApp(api.app).head(url(upload(api, PNG).message))
        assert (answer.body, answer.content_length) == (b"", len(PNG))

    @pytest.mark.parametrize(
        "path",
        [
            "/pictures/" + "0" * 32 + "/a.png",
            "/pictures/" + "0" * 32 + "/",
            "/pictures/../../etc/passwd",
            "/pictures/" + "0" * 32 + "/..%2f..%2fpostgres.log",
            "/pictures/" + "0" * 32 + "/%2e%2e",
            "/pictures/" + "0" * 32 + "/a%00.png",
            "/pictures/" + "0" * 32 + "/" + "n" * 5000,
            "/pictures/abc/a.png",
            "/pictures/",
            "/pictures",
        ],
    )
    def test_nothing_else_is_served(self, path: str, api: Api) -> None:
        answer = self.get(api.app, path)
        assert (answer.status_int, answer.json) == (404, {"result": "0003", "message": None})

    def test_half_a_picture_is_never_served(self, api: Api) -> None:
        path = Path(upload(api, PNG).message)
        path.rename(path.with_name(".part"))
        assert self.get(api.app, url(str(path))).status_int == 404
        assert self.get(api.app, url(str(path.with_name(".part")))).status_int == 404

    def test_a_picture_is_read_only(self, api: Api) -> None:
        answer = TestApp(api.app).post(url(upload(api, PNG).message), status="*")
        assert (answer.status_int, answer.json["result"]) == (405, "0003")
        assert answer.headers["Allow"] == "GET, HEAD"
