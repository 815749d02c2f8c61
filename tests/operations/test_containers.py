"""deploy/'s containers, without a Docker daemon: their form, and the Dockerfile's steps by hand."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.machine import ROOT, SERVES, free_ports
from tests.support.servers import hardened

Instruction = tuple[str, str]
DEPLOY = ROOT / "deploy"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def instructions(file: Path) -> list[Instruction]:
    """The instructions of a Dockerfile, each with what follows its word."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


DOCKERFILE = instructions(DEPLOY / "Dockerfile")


def last(word: str) -> str:
    return next(rest for name, rest in reversed(DOCKERFILE) if name == word)


def health_check() -> list[str]:
    return list(json.loads(last("HEALTHCHECK").partition("CMD ")[2]))


def start() -> list[str]:
    return [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]


def test_its_words_are_dockers() -> None:
    known = {
        *("FROM", "RUN", "COPY", "ENV", "USER", "VOLUME", "EXPOSE"),
        *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }
    for file in (DEPLOY / "Dockerfile", DEPLOY / "nginx.Dockerfile"):
        words = [word for word, _ in instructions(file)]
        assert set(words) <= known
        assert words[0] == "FROM"


def test_what_is_built_stays_behind_and_nobody_is_root() -> None:
    stages = [number for number, (word, _) in enumerate(DOCKERFILE) if word == "FROM"]
    assert len(stages) == 2
    final = DOCKERFILE[stages[-1] :]
    assert not any("pip" in rest for _, rest in final)
    words = [word for word, _ in final]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert last("USER").isdecimal()
    assert last("USER") != "0"
    assert f"--uid {last('USER')} " in last("RUN")
    assert last("STOPSIGNAL") == "SIGTERM"


def test_image_has_only_locked_packages() -> None:
    runs = [rest for word, rest in DOCKERFILE if word == "RUN" and "pip install" in rest]
    packages, project = map(shlex.split, runs)
    assert "--no-deps" in packages
    assert "--require-hashes" in packages
    assert packages[-2:] == ["--requirement", "/src/requirements/production.txt"]
    assert project[-3:] == ["--no-deps", "--no-build-isolation", "/src"]


def test_what_is_copied_is_there_and_sent_to_the_daemon() -> None:
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in DOCKERFILE:
        source = rest.split()[0]
        if word == "COPY" and not source.startswith("--") and source != ".":
            assert (ROOT / source).exists()
            assert f"!{source}" in sent
    # setup.py needs these.
    needed = {"setup.py", "README.md", "pyproject.toml", "livebackend", "migrations"}
    assert {f"!{name}" for name in needed} <= set(sent)


def test_the_steps_by_hand(tmp_path: Path, database_url: str) -> None:
    """The environment is built by the file's own commands, and serves, is well, and stops."""
    source, built = tmp_path / "src", tmp_path / "opt"
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    names = [line[1:] for line in sent if line.startswith("!")]
    source.mkdir()
    for name in [name for name in names if (ROOT / name).exists() and "/" not in name]:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    for word, rest in DOCKERFILE:
        if word == "RUN" and "/opt/livebackend" in rest:
            step = rest.replace("/opt/livebackend", str(built)).replace("/src", str(source))
            subprocess.run(["sh", "-c", step.replace("python -m", "python3 -m", 1)], check=True)

    python = str(built / "bin" / "python")
    subprocess.run([python, "-c", "import livebackend.gateways.payments.wechat"], check=True)

    (port,) = free_ports(1)
    environment = {
        "PATH": f"{built}/bin:{os.defpath}",
        "LIVEBACKEND_VAR_DIR": str(tmp_path / "var"),
        "LIVEBACKEND_METRICS_LISTEN": "",
        **{
            f"LIVEBACKEND_{name.upper().replace('.', '_')}": value
            for name, value in hardened(database_url).items()
        },
    }
    ini = str(ROOT / "production.ini")
    command = [ini if word == "/etc/livebackend/production.ini" else word for word in start()]
    command = [*command, "--port", str(port)]
    if not SERVES:
        command = ["python", "-m", "pyramid.scripts.pserve", ini, f"port={port}"]
    program = shutil.which(command[0], path=environment["PATH"])
    assert program
    check = shlex.join(health_check()).replace("6543", str(port))

    def is_well() -> bool:
        done = subprocess.run(
            ["sh", "-c", check], env=environment, cwd=tmp_path, capture_output=True, check=False
        )
        return done.returncode == 0

    assert not is_well()
    server = subprocess.Popen([program, *command[1:]], env=environment, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not is_well():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        server.send_signal(getattr(signal, last("STOPSIGNAL")) if SERVES else signal.SIGINT)
        assert server.wait(timeout=20) == 0


class TestCompose:
    def test_it_is_well_formed(self, tmp_path: Path) -> None:
        shutil.copytree(DEPLOY, tmp_path / "deploy")
        for name in ("livebackend.env", "database.env"):
            (tmp_path / "deploy" / name).touch()
        compose = ["docker-compose", "--file", str(tmp_path / "deploy/compose.yaml")]
        done = subprocess.run(
            [*compose, "config", "--services"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.split()) == {"app", "database", "media", "migrate", "nginx"}

    def test_every_file_that_it_names_is_there(self) -> None:
        text = (DEPLOY / "compose.yaml").read_text()
        for name in re.findall(r"- \./([\w.-]+\.conf):", text):
            assert (DEPLOY / name).exists(), name
        for name in re.findall(r"dockerfile: (\S+)", text):
            assert (ROOT / name).exists(), name

    def test_the_application_believes_the_proxy_of_its_network_alone(self) -> None:
        text = (DEPLOY / "compose.yaml").read_text()
        (trusted,) = re.findall(r"LIVEBACKEND_HTTP_TRUSTED_PROXIES: (\S+)", text)
        assert f"subnet: {trusted}" in text

    def test_a_stop_waits_longer_than_any_call(self) -> None:
        text = (DEPLOY / "compose.yaml").read_text()
        (seconds,) = re.findall(r"stop_grace_period: (\d+)s", text)
        assert int(seconds) >= 20
