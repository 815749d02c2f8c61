"""Run the tests of the previous release on the tables of this version.

`make test-previous-release` copies the previous release from git to a temporary folder, replaces
its migrations by those of this version, and runs its tests. So it checks that the servers of the
previous release continue to work after `livebackend migrate`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.releases import copy_release, previous_release

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 1800
# The migrations import this module, which the previous release does not have.
_MIGRATION_STEPS = Path("livebackend/database/online_migrations.py")
# Tests of the checkout, of the documentation, and of pages in a browser do not use the tables.
_IGNORED_FOLDERS = ("tests/browser", "tests/deployment", "tests/documentation", "tests/media")
# Tests that fail with later migrations although the release works with the tables.
_DESELECTED = (
    # The models of the previous release do not describe the new columns and indexes.
    "tests/models/test_schema.py",
    # A migration imports livebackend.database.online_migrations, which the release does not have.
    "tests/database/test_migrations.py::test_migrations_do_not_import_the_application",
    # This version is installed, whose requirements are not in the lock files of the release.
    "tests/test_packaging.py::test_lock_file_satisfies_setup_py",
)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="livebackend-") as name:
        folder = Path(name)
        _copy_previous_release(folder)
        return _run_tests(folder)


def _copy_previous_release(folder: Path) -> None:
    copy_release(previous_release(), folder)
    shutil.rmtree(folder / "migrations")
    shutil.copytree(ROOT / "migrations", folder / "migrations")
    shutil.copy(ROOT / _MIGRATION_STEPS, folder / _MIGRATION_STEPS)


def _run_tests(folder: Path) -> int:
    options = [
        *("-q", "-p", "no:cacheprovider", "-o", "log_cli=false", "--show-capture=no"),
        *("--numprocesses", "auto", "--maxprocesses", "8", "--dist", "worksteal"),
        *("-m", "not processes and not media"),
        *(f"--ignore={ignored}" for ignored in _IGNORED_FOLDERS),
        *(f"--deselect={test}" for test in _DESELECTED),
        *sys.argv[1:],
    ]
    # PYTHONPATH precedes the editable installation of this version.
    process = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        check=False,
        timeout=TIMEOUT_S,
    )
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
