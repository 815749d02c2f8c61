"""Tests of folders and files that only their owner can read."""

import os
import stat
from pathlib import Path

import pytest

from livebackend.core.private_files import make_private_folder, open_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077], autouse=True)
def umask(request: pytest.FixtureRequest) -> object:
    previous_umask = os.umask(request.param)
    yield
    os.umask(previous_umask)


def test_new_folder_and_file_are_private_with_every_umask(tmp_path: Path) -> None:
    folder = make_private_folder(tmp_path / "data" / "pictures")
    assert mode(folder) == 0o700
    with open(folder / "file", "wb", opener=open_private) as file:
        file.write(b"x")
    assert mode(folder / "file") == 0o600


def test_existing_folder_becomes_private_and_keeps_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "file").touch()
    assert mode(make_private_folder(folder)) == 0o700
    assert (folder / "file").exists()


def test_folder_of_another_file_system_can_refuse_the_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", refuse)
    assert make_private_folder(tmp_path) == tmp_path
