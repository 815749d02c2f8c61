"""Starts the package from a built wheel, in a bare environment, and calls it.

Needs .venv with the extras `dev` and `lint`: it builds the wheel and lends its PostgreSQL.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from livebackend.development.embedded_postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, **options
    )
    return done.stdout


def build(folder: Path) -> Path:
    """The wheel, built from what is committed: nothing that lies about gets into it."""
    tree = folder / "tree"
    tree.mkdir()
    archive = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, tree)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_content(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "py.typed",
        "migrations/env.py",
        "migrations/versions/0001_accounts.py",
        "static/docs/docs.html",
    ):
        assert f"livebackend/{name}" in names, f"{name} is not in the wheel"
    assert not any(name.startswith("tests") for name in names)


def check_serving(serve: list[str], environment: dict[str, str], folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([*serve, str(port)], env=environment, cwd=folder)
    try:
        for _ in range(600):
            assert server.poll() is None, "the server has ended"
            try:
                url = f"http://127.0.0.1:{port}/register"
                with urlopen(url, data=b"token=13800000001", timeout=5) as reply:
                    body = reply.read().decode()
                break
            except URLError:
                time.sleep(0.05)
        assert '"result":"0000"' in body, body
    finally:
        server.terminate()
        server.wait(timeout=20)


def check_without_database(pserve: list[str], environment: dict[str, str], folder: Path) -> None:
    """One line says what to do."""
    done = subprocess.run(
        pserve, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr, done.stderr
    assert "livebackend[dev]" in said, done.stderr
    assert "LIVEBACKEND_DATABASE_URL" in said, done.stderr


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="livebackend smoke ") as name:
        folder = Path(name)
        wheel = build(folder)
        check_content(wheel)
        bare = folder / "bare"
        venv.create(bare, with_pip=True)
        python = bare / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        ini = elsewhere / "development.ini"
        ini.write_bytes((ROOT / "development.ini").read_bytes())
        pserve = [str(python), "-m", "pyramid.scripts.pserve", str(ini)]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("LIVEBACKEND_")
        }
        check_without_database(pserve, environment, elsewhere)
        postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        environment["LIVEBACKEND_DATABASE_URL"] = postgres.start()
        try:
            command = [python, "-m", "livebackend.cli"]
            # From elsewhere, or Python would find the tree instead of what is installed.
            run(*command, "check-config", ini, env=environment, cwd=elsewhere)
            run(*command, "migrate", ini, env=environment, cwd=elsewhere)
            check_serving([*command, "serve", ini, "--port"], environment, elsewhere)
        finally:
            postgres.close()
    print("the wheel serves")  # noqa: T201


if __name__ == "__main__":
    main()
