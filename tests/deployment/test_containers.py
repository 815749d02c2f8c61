"""Tests of the Dockerfiles and the two compose files, without a Docker daemon."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from tests.support.machine import ROOT, free_ports
from tests.support.servers import hardened_settings

Instruction = tuple[str, str]
DEPLOY = ROOT / "deploy"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def instructions(file: Path) -> list[Instruction]:
    """Return the instructions of a Dockerfile as (name, arguments)."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    line_parts = (line.partition(" ") for line in lines)
    return [(name, arguments) for name, _, arguments in line_parts if name]


DOCKERFILE = instructions(DEPLOY / "Dockerfile")


def last_arguments(instruction: str) -> str:
    return next(arguments for name, arguments in reversed(DOCKERFILE) if name == instruction)


def health_check() -> list[str]:
    return list(json.loads(last_arguments("HEALTHCHECK").partition("CMD ")[2]))


def start_command() -> list[str]:
    return [*json.loads(last_arguments("ENTRYPOINT")), *json.loads(last_arguments("CMD"))]


def test_dockerfiles_contain_only_known_instructions() -> None:
    known_instructions = {
        *("FROM", "RUN", "COPY", "ENV", "USER", "VOLUME", "EXPOSE"),
        *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }
    for file in (DEPLOY / "Dockerfile", DEPLOY / "nginx.Dockerfile"):
        instruction_names = [name for name, _ in instructions(file)]
        assert set(instruction_names) <= known_instructions
        assert instruction_names[0] == "FROM"


def test_final_image_has_no_build_step_and_does_not_run_as_root() -> None:
    stage_starts = [index for index, (name, _) in enumerate(DOCKERFILE) if name == "FROM"]
    assert len(stage_starts) == 2
    final_stage = DOCKERFILE[stage_starts[-1] :]
    assert not any("pip" in arguments for _, arguments in final_stage)
    instruction_names = [name for name, _ in final_stage]
    assert instruction_names.index("USER") < instruction_names.index("ENTRYPOINT")
    assert last_arguments("USER").isdecimal()
    assert last_arguments("USER") != "0"
    assert f"--uid {last_arguments('USER')} " in last_arguments("RUN")
    assert last_arguments("STOPSIGNAL") == "SIGTERM"


def test_image_has_only_locked_packages() -> None:
    install_commands = [
        command for name, command in DOCKERFILE if name == "RUN" and "pip install" in command
    ]
    package_arguments, project_arguments = map(shlex.split, install_commands)
    assert "--no-deps" in package_arguments
    assert "--require-hashes" in package_arguments
    assert package_arguments[-2:] == ["--requirement", "/src/requirements/production.txt"]
    assert project_arguments[-3:] == ["--no-deps", "--no-build-isolation", "/src"]


def test_files_copied_into_the_image_exist_and_are_in_the_build_context() -> None:
    context_patterns = (ROOT / ".dockerignore").read_text().splitlines()
    for name, arguments in DOCKERFILE:
        source = arguments.split()[0]
        if name == "COPY" and not source.startswith("--") and source != ".":
            assert (ROOT / source).exists()
            assert f"!{source}" in context_patterns
    # setup.py reads these files, so the build context must contain them.
    needed_files = {
        *("setup.py", "README.md", "LICENSE", "pyproject.toml", "livebackend", "migrations"),
    }
    assert {f"!{name}" for name in needed_files} <= set(context_patterns)


def test_dockerfile_commands_build_a_server_that_starts_and_stops(
    tmp_path: Path, database_url: str
) -> None:
    source_folder, install_folder = tmp_path / "src", tmp_path / "opt"
    context_patterns = (ROOT / ".dockerignore").read_text().splitlines()
    context_names = [line[1:] for line in context_patterns if line.startswith("!")]
    source_folder.mkdir()
    for name in [name for name in context_names if (ROOT / name).exists() and "/" not in name]:
        copy_path = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy_path(ROOT / name, source_folder / name)
    for instruction, arguments in DOCKERFILE:
        if instruction == "RUN" and "/opt/livebackend" in arguments:
            build_command = arguments.replace("/opt/livebackend", str(install_folder)).replace(
                "/src", str(source_folder)
            )
            subprocess.run(
                ["sh", "-c", build_command.replace("python -m", "python3 -m", 1)], check=True
            )

    python = str(install_folder / "bin" / "python")
    subprocess.run([python, "-c", "import livebackend.gateways.payments.wechat"], check=True)

    (port,) = free_ports(1)
    environment = {
        "PATH": f"{install_folder}/bin:{os.defpath}",
        "LIVEBACKEND_DATA_DIR": str(tmp_path / "var"),
        "LIVEBACKEND_METRICS_ADDRESS": "",
        # The command listens on every address, so it needs a proxy and a URL for the clients.
        "LIVEBACKEND_HTTP_PUBLIC_URL": "https://live.example",
        "LIVEBACKEND_HTTP_TRUSTED_PROXIES": "172.30.65.2",
        **{
            f"LIVEBACKEND_{name.upper().replace('.', '_')}": value
            for name, value in hardened_settings(database_url).items()
        },
    }
    ini = str(ROOT / "production.ini")
    command = [
        ini if word == "/etc/livebackend/production.ini" else word for word in start_command()
    ]
    command = [*command, "--port", str(port)]
    program = shutil.which(command[0], path=environment["PATH"])
    assert program
    health_command = shlex.join(health_check()).replace("6543", str(port))

    def is_healthy() -> bool:
        completed = subprocess.run(
            ["sh", "-c", health_command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        return completed.returncode == 0

    assert not is_healthy()
    server = subprocess.Popen([program, *command[1:]], env=environment, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not is_healthy():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        server.send_signal(getattr(signal, last_arguments("STOPSIGNAL")))
        assert server.wait(timeout=20) == 0


class TestFirstTry:
    """Tests of compose.yaml in the top-level folder."""

    def test_compose_file_is_valid_and_publishes_only_a_loopback_port(self) -> None:
        command = ["docker-compose", "--file", str(ROOT / "compose.yaml"), "config", "--services"]
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert completed.returncode == 0, completed.stderr
        assert set(completed.stdout.split()) == {"app", "database"}
        services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
        assert services["app"]["ports"] == ["127.0.0.1:6543:6543", "127.0.0.1:6545:6545"]
        assert "ports" not in services["database"]

    def test_command_and_environment_start_a_server_in_spec_mode(
        self, tmp_path: Path, new_database: Callable[[str], str]
    ) -> None:
        app = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["app"]
        assert "./development.ini:/etc/livebackend/development.ini:ro" in app["volumes"]
        environment = app["environment"] | {
            "LIVEBACKEND_DATABASE_URL": new_database("first_try"),
            "LIVEBACKEND_DATA_DIR": str(tmp_path / "data"),
        }
        port, events_port = free_ports(2)
        environment = {
            name: value.replace("6545", str(events_port)) for name, value in environment.items()
        }
        environment["LIVEBACKEND_EVENTS_APP_URL"] = f"http://127.0.0.1:{port}"
        ini = str(ROOT / "development.ini")
        arguments = [
            ini if word == "/etc/livebackend/development.ini" else word for word in app["command"]
        ]
        server = subprocess.Popen(
            [sys.executable, "-m", "livebackend.cli", *arguments, "--port", str(port)],
            env=os.environ | environment,
            cwd=tmp_path,
        )
        try:
            request = ["curl", "--silent", "--retry", "60", "--retry-delay", "1"]
            request += ["--retry-all-errors", "--data", "token=13800000001"]
            response = subprocess.run(
                [*request, f"http://127.0.0.1:{port}/register"], capture_output=True, check=True
            )
            # The clients open event streams at the published port of the container.
            doctor = [sys.executable, "-m", "livebackend.cli", "doctor", ini]
            report = subprocess.run(
                doctor, env=os.environ | environment, capture_output=True, text=True, check=True
            )
            assert "an event has reached a client of the event stream" in report.stdout
        finally:
            server.terminate()
            assert server.wait(timeout=20) == 0
        # In spec mode, the response contains the code.
        envelope = json.loads(response.stdout)
        assert envelope["result"] == "0000"
        assert re.fullmatch("[0-9]{4}", envelope["message"])


class TestCompose:
    """Tests of deploy/compose.yaml."""

    def test_compose_file_is_valid(self, tmp_path: Path) -> None:
        shutil.copytree(DEPLOY, tmp_path / "deploy")
        for name in ("livebackend.env", "database.env", "events.env"):
            (tmp_path / "deploy" / name).touch()
        compose = ["docker-compose", "--file", str(tmp_path / "deploy/compose.yaml")]
        completed = subprocess.run(
            [*compose, "config", "--services"], capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stderr
        assert set(completed.stdout.split()) == {"app", "database", "media", "migrate", "nginx"}

    def test_files_named_in_compose_exist(self) -> None:
        text = (DEPLOY / "compose.yaml").read_text()
        for name in re.findall(r"- \./([\w.-]+\.conf):", text):
            assert (DEPLOY / name).exists(), name
        for name in re.findall(r"dockerfile: (\S+)", text):
            assert (ROOT / name).exists(), name

    def test_application_trusts_only_the_address_of_nginx(self) -> None:
        text = (DEPLOY / "compose.yaml").read_text()
        (trusted_proxies,) = re.findall(r"LIVEBACKEND_HTTP_TRUSTED_PROXIES: (.+)", text)
        (nginx_address,) = re.findall(r"ipv4_address: (\S+)", text)
        assert trusted_proxies == nginx_address
        (subnet,) = re.findall(r"subnet: (\S+)", text)
        (dynamic_addresses,) = re.findall(r"ip_range: (\S+)", text)
        assert ip_address(nginx_address) in ip_network(subnet)
        assert ip_address(nginx_address) not in ip_network(dynamic_addresses)

    def test_nginx_serves_event_streams_with_the_secret_of_the_application(
        self, tmp_path: Path
    ) -> None:
        """Run the command of the service nginx until it would start nginx."""
        services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
        nginx, environment = services["nginx"], services["app"]["environment"]
        assert nginx["env_file"] in services["app"]["env_file"]
        (address,) = (network["ipv4_address"] for network in nginx["networks"].values())
        assert environment["LIVEBACKEND_EVENTS_PUBLISH_URL"] == f"http://{address}:6547"
        shell, option, command = nginx["command"]
        command = command.replace("$$", "$").replace("/etc/livebackend", str(DEPLOY))
        command = command.replace("/etc/nginx/conf.d", str(tmp_path)).replace("exec nginx", "echo")
        variables = {"PATH": os.defpath, "LIVEBACKEND_EVENTS_PUBLISH_SECRET": "a-secret_1"}
        subprocess.run([shell, option, command], check=True, env=variables)
        assert '"Bearer a-secret_1"' in (tmp_path / "livebackend.conf").read_text()
        config = (tmp_path / "livebackend-events.conf").read_text()
        assert f"listen {address}:6547;" in config
        assert '"Bearer a-secret_1"' in config
        assert "CHANGE-ME" not in config
        # The streams are for the proxy in the same container only.
        assert "listen 127.0.0.1:6548;" in config

    def test_nginx_of_the_image_accepts_many_connections(self) -> None:
        """Debian's nginx.conf has the line that the Dockerfile changes."""
        install = " ".join(arguments for _, arguments in instructions(DEPLOY / "nginx.Dockerfile"))
        (old_line,) = re.findall(r"sed --in-place 's/([^/]+)/", install)
        assert old_line in Path("/etc/nginx/nginx.conf").read_text()
        assert "libnginx-mod-nchan" in install

    def test_stop_grace_period_is_longer_than_any_request(self) -> None:
        text = (DEPLOY / "compose.yaml").read_text()
        (grace_period_s,) = re.findall(r"stop_grace_period: (\d+)s", text)
        assert int(grace_period_s) >= 20
