"""Tests of uploading pictures and serving them."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from webtest import TestApp

from livebackend.container import Services
from livebackend.storage import local_disk
from tests.support.api import ApiClient, App
from tests.support.database_state import DatabaseState
from tests.support.pictures import PNG, RED, encode_image, upload
from tests.support.unreachable_database import disconnect


def picture_url(location: str) -> str:
    folder, name = Path(location).parts[-2:]
    return f"/pictures/{folder}/{quote(name)}"


class TestUpload:
    def test_upload_returns_the_absolute_path_of_the_stored_picture(
        self, api: ApiClient, data_dir: Path, database_state: DatabaseState
    ) -> None:
        response = upload(api, PNG)
        path = Path(response.message)
        assert response.body == {"result": "0000", "message": str(path)}
        assert path.read_bytes() == PNG
        assert path.parent.parent == data_dir / "pictures"
        assert re.fullmatch("[0-9a-f]{32}", path.parent.name)
        assert path.name == "me.png"
        assert [row["location"] for row in database_state.rows("pictures")] == [str(path)]

    def test_two_uploads_with_the_same_name_store_two_pictures(self, api: ApiClient) -> None:
        assert upload(api, b"one").message != upload(api, b"two").message

    def test_upload_stores_files_of_any_type(self, api: ApiClient) -> None:
        assert Path(upload(api, b"<script>", "a.html").message).read_bytes() == b"<script>"

    @pytest.mark.parametrize(
        ("sent_name", "stored_name"),
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
            ("a\0\t\u202e.png", "a.png"),
        ],
    )
    def test_upload_sanitizes_the_file_name(
        self, sent_name: str, stored_name: str, api: ApiClient
    ) -> None:
        assert Path(upload(api, PNG, sent_name).message).name == stored_name

    @pytest.mark.parametrize("name", ["n" * 60_000 + ".png", "长" * 5000 + ".png"])
    def test_upload_truncates_a_long_file_name_and_keeps_the_extension(
        self, name: str, api: ApiClient
    ) -> None:
        location = upload(api, PNG, name).message
        assert len(location) <= 255
        assert location.endswith(".png")
        assert location[-5] == name[0]

    def test_upload_of_the_maximum_size_succeeds(self, api: ApiClient) -> None:
        content = b"x" * 5_242_880
        assert Path(upload(api, content).message).read_bytes() == content

    def test_upload_over_the_maximum_size_returns_0006(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = upload(api, b"x" * 5_242_881)
        assert (response.status, response.body) == (200, {"result": "0006", "message": None})
        assert response.error == "img; reason=too_large; max=5242880"

    def test_upload_of_an_empty_file_returns_0006(
        self, api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = upload(api, b"")
        assert response.body == {"result": "0006", "message": None}

    @pytest.mark.parametrize("form", [{}, {"img": ""}, {"img": "a.png"}, {"other": "x"}])
    def test_upload_without_a_file_returns_0006(
        self, form: dict[str, str], api: ApiClient, database_state: DatabaseState
    ) -> None:
        with database_state.assert_unchanged():
            response = api.post("/upload", **form)
        assert (response.status, response.body) == (200, {"result": "0006", "message": None})

    def test_upload_to_a_full_disk_returns_0006(
        self, api: ApiClient, database_state: DatabaseState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail_to_open(path: str, flags: int) -> int:
            raise OSError("No space left on device")

        with monkeypatch.context() as patch, database_state.assert_unchanged():
            patch.setattr(local_disk, "open_private", fail_to_open)
            response = upload(api, PNG)
        assert (response.result, response.error) == ("0006", "img; reason=picture_not_stored")

    def test_upload_without_a_database_connection_returns_503_and_stores_no_file(
        self,
        api: ApiClient,
        services: Services,
        database_state: DatabaseState,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with monkeypatch.context() as patch, database_state.assert_unchanged():
            disconnect(services.database, patch)
            response = upload(api, PNG)
        assert (response.status, response.result) == (503, "0006")


class TestPictures:
    def get(self, app: App, path: str, **options: object) -> Any:
        return TestApp(app).get(path, status="*", **options)

    @pytest.mark.parametrize(
        ("image_format", "media_type"),
        [
            ("PNG", "image/png"),
            ("JPEG", "image/jpeg"),
            ("GIF", "image/gif"),
            ("WEBP", "image/webp"),
        ],
    )
    def test_picture_is_served_with_its_media_type_and_cache_headers(
        self, image_format: str, media_type: str, api: ApiClient
    ) -> None:
        content = encode_image(RED, image_format)
        # The media type depends on the content, not on the file name.
        response = self.get(api.app, picture_url(upload(api, content, "头像.txt").message))
        assert (response.status_int, response.body) == (200, content)
        assert response.content_type == media_type
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Content-Disposition" not in response.headers

    def test_file_that_is_not_a_picture_is_served_as_an_attachment(self, api: ApiClient) -> None:
        response = self.get(
            api.app, picture_url(upload(api, b"<script>alert(1)</script>", "a.png").message)
        )
        assert response.content_type == "application/octet-stream"
        assert response.headers["Content-Disposition"] == "attachment"
        assert response.headers["X-Content-Type-Options"] == "nosniff"

    def test_head_request_for_a_picture_returns_no_body(self, api: ApiClient) -> None:
        response = TestApp(api.app).head(picture_url(upload(api, PNG).message))
        assert (response.body, response.content_length) == (b"", len(PNG))

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
    def test_unknown_or_unsafe_picture_path_returns_404(self, path: str, api: ApiClient) -> None:
        response = self.get(api.app, path)
        assert (response.status_int, response.json) == (404, {"result": "0003", "message": None})

    def test_partially_written_picture_returns_404(self, api: ApiClient) -> None:
        path = Path(upload(api, PNG).message)
        path.rename(path.with_name(".part"))
        assert self.get(api.app, picture_url(str(path))).status_int == 404
        assert self.get(api.app, picture_url(str(path.with_name(".part")))).status_int == 404

    def test_post_to_a_picture_returns_405(self, api: ApiClient) -> None:
        response = TestApp(api.app).post(picture_url(upload(api, PNG).message), status="*")
        assert (response.status_int, response.json["result"]) == (405, "0003")
        assert response.headers["Allow"] == "GET, HEAD"
