"""Tests of deleted pictures: no file is served without its row."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from webtest import TestApp

from livebackend.container import Services
from livebackend.services.avatars import Avatars
from tests.support.api import PASSWORD, App, PhoneClient, UserClient
from tests.support.database_state import DatabaseState
from tests.support.pictures import PNG, upload


@pytest.fixture
def ann(phone_of_ann: PhoneClient) -> UserClient:
    return phone_of_ann.register(nickname="Ann")


def path_of(location: str) -> str:
    return "/" + location.split("/", 3)[3]


def status(app: App, location: str) -> int:
    response_status: int = TestApp(app).get(path_of(location), status="*").status_int
    return response_status


def upload_avatar(user: UserClient) -> str:
    location = str(upload(user, PNG).message)
    assert user.post("/register", profile="1", headImage=location).result == "0000"
    assert status(user.app, location) == 200
    return location


def remove_account(user: UserClient) -> None:
    assert user.post("/register", remove="1", password=PASSWORD).result == "0000"


def picture_files(data_dir: Path) -> list[Path]:
    return list((data_dir / "pictures").rglob("*.*"))


def test_picture_of_a_removed_account_is_not_served_although_its_file_cannot_be_deleted(
    ann: UserClient,
    services: Services,
    data_dir: Path,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    location = upload_avatar(ann)
    with monkeypatch.context() as patch:

        def fail(path: Path) -> None:
            raise PermissionError(13, "Permission denied")

        patch.setattr(shutil, "rmtree", fail)
        remove_account(ann)
        assert status(ann.app, location) == 404
        assert len(picture_files(data_dir)) == len(database_state.rows("pictures")) == 1
        assert services.avatars.delete_unused() == 1
        assert len(database_state.rows("pictures")) == 1
    assert "housekeeping will retry: Permission denied" in caplog.text
    assert services.avatars.delete_unused() == 1
    assert picture_files(data_dir) == []
    assert database_state.rows("pictures") == []


def test_picture_is_not_served_if_the_process_ends_before_its_file_is_deleted(
    ann: UserClient,
    services: Services,
    data_dir: Path,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    location = upload_avatar(ann)
    with monkeypatch.context() as patch:
        patch.setattr(Avatars, "remove", lambda self, locations: None)
        remove_account(ann)
    assert status(ann.app, location) == 404
    assert len(picture_files(data_dir)) == 1
    services.periodic_tasks.run_once()
    assert picture_files(data_dir) == []
    assert database_state.rows("pictures") == []


def test_deleted_picture_cannot_become_an_avatar_again(
    ann: UserClient, phone_of_ben: PhoneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ben = phone_of_ben.register()
    location = upload_avatar(ann)
    monkeypatch.setattr(Avatars, "remove", lambda self, locations: None)
    remove_account(ann)
    response = ben.post("/register", profile="1", headImage=location)
    assert response.error == "headImage; reason=unknown_picture"


def test_file_without_a_row_is_not_served(
    ann: UserClient, data_dir: Path, database_state: DatabaseState
) -> None:
    location = upload_avatar(ann)
    folder = data_dir / "pictures" / location.split("/")[-2]
    shutil.copytree(folder, folder.with_name("0" * 32))
    assert status(ann.app, location.replace(folder.name, "0" * 32)) == 404
    assert status(ann.app, location.replace("picture.", "other.")) == 404
    assert status(ann.app, location) == 200


def test_pictures_are_served_after_a_change_of_the_public_url(
    ann: UserClient, new_hardened_app: Callable[..., App]
) -> None:
    location = upload_avatar(ann)
    moved_app = new_hardened_app(
        streams__gateway="tests.support.fake_gateways.RecordingStreams",
        http__public_url="https://new.example/live",
    )
    assert status(moved_app, location) == 200


def test_missing_pictures_folder_does_not_count_as_deleted(
    ann: UserClient, services: Services, data_dir: Path, database_state: DatabaseState
) -> None:
    upload_avatar(ann)
    folder, unmounted_folder = data_dir / "pictures", data_dir / "unmounted"
    folder.rename(unmounted_folder)
    remove_account(ann)
    assert len(database_state.rows("pictures")) == 1
    unmounted_folder.rename(folder)
    services.avatars.delete_unused()
    assert picture_files(data_dir) == []
    assert database_state.rows("pictures") == []


def test_failed_deletions_do_not_delay_the_deletion_of_other_pictures(
    ann: UserClient,
    services: Services,
    database_state: DatabaseState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database_state.execute(
        "INSERT INTO pictures (location, deleted_at) SELECT"
        " 'https://x/pictures/' || md5(n::text) || '/picture.jpg', now()"
        " FROM generate_series(1, 250) AS n"
    )
    attempts: list[Path] = []

    def fail(path: Path) -> None:
        attempts.append(path)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "rmtree", fail)
    assert services.avatars.delete_unused() == 250
    assert len(attempts) == len(set(attempts)) == 250


def test_pictures_and_their_folders_are_private(ann: UserClient, data_dir: Path) -> None:
    upload_avatar(ann)
    (file,) = picture_files(data_dir)
    for path, mode in (
        (file, 0o600),
        (file.parent, 0o700),
        (data_dir / "pictures", 0o700),
        (data_dir / "hashing", 0o700),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode
