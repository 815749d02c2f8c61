"""The releases of docs/upgrading.md, which tests copy from git."""

from pathlib import Path

import pytest

from tools import releases
from tools.releases import Release, ReleaseMissing, copy_release, previous_release

pytestmark = pytest.mark.processes


@pytest.fixture
def release() -> Release:
    try:
        return previous_release()
    except ReleaseMissing as error:
        pytest.skip(str(error))


def test_previous_release_lacks_the_newest_migration(release: Release, tmp_path: Path) -> None:
    copy_release(release, tmp_path)
    migrations = "migrations/versions/[0-9]*.py"
    newest_name = max(path.name for path in releases.ROOT.glob(migrations))
    names = [path.name for path in tmp_path.glob(migrations)]
    assert names
    assert newest_name not in names
    assert f'"{release.version}"' in (tmp_path / "setup.py").read_text("utf-8")


def test_release_that_git_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseMissing, match=r"git has no release 9\.9\.9"):
        copy_release(Release("9.9.9", "0" * 40), tmp_path)
