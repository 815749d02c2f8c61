"""The releases of docs/upgrading.md, and copies of them from git."""

import io
import re
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_MIGRATIONS = "migrations/versions"
_TIMEOUT_S = 60
_ROW = re.compile(r"^\| ([0-9.]+) \| ([0-9a-f]{7,}) \|", re.MULTILINE)


class ReleaseMissing(Exception):
    """There is no such release, or git does not have its commit, as in a shallow clone."""


class Release(NamedTuple):
    """A release and its commit."""

    version: str
    commit: str


def previous_release() -> Release:
    """Return the newest release that lacks the newest migration. Raises ReleaseMissing."""
    newest_migration = max(path.name for path in (ROOT / _MIGRATIONS).glob("[0-9]*.py"))
    for release in releases():
        names = _git(release, "ls-tree", "-r", "--name-only", release.commit, _MIGRATIONS)
        if newest_migration not in names.decode():
            return release
    raise ReleaseMissing("every release has the newest migration")


def releases() -> list[Release]:
    """Return the releases, the newest first."""
    text = (ROOT / "docs/upgrading.md").read_text("utf-8")
    return [Release(*row) for row in _ROW.findall(text)]


def copy_release(release: Release, folder: Path) -> None:
    """Copy the files of a release to an existing folder. Raises ReleaseMissing."""
    archive = io.BytesIO(_git(release, "archive", release.commit))
    with tarfile.open(fileobj=archive) as files:
        files.extractall(folder, filter="data")


def _git(release: Release, *arguments: str) -> bytes:
    try:
        completed = subprocess.run(
            ["git", *arguments],  # noqa: S607
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise ReleaseMissing(f"git has no release {release.version}: {reason}") from None
    return completed.stdout
