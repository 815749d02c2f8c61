"""Fake systemctl: starts, stops and enables the services of the unit files below ROOT.

Usage: systemctl.py ROOT ACTION [--now] [--quiet] UNIT…
       systemctl.py ROOT run --property=EnvironmentFile=FILE [OPTION…] COMMAND…

`run` is a fake systemd-run, which waits for the command.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

root = Path(sys.argv[1])
action, *arguments = sys.argv[2:]
STOP_TIMEOUT_S = 20


def read_unit(name: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment variables that a unit file specifies."""
    template_name, _, port = name.partition("@")
    text = (root / f"etc/systemd/system/{template_name}@.service").read_text().replace("%i", port)
    unit_settings = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    environment = {"PATH": os.defpath}
    for key, value in unit_settings:
        if key == "Environment":
            environment.update(dict([value.split("=", 1)]))
        if key == "EnvironmentFile":
            environment.update(read_environment_file(Path(value)))
    command = shlex.split(dict(unit_settings)["ExecStart"])
    return command, environment


def read_environment_file(file: Path) -> dict[str, str]:
    """Return the variables as systemd reads them: it expands nothing, unlike a shell."""
    variables = {}
    for line in file.read_text().splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith(("#", ";")):
            variables[name] = shlex.split(value)[0] if value[:1] in ("'", '"') else value
    return variables


def pid_file(name: str) -> Path:
    return root / f"run/{name}.pid"


def enabled_file(name: str) -> Path:
    """Return the file that exists while the unit is enabled."""
    return root / f"run/{name}.enabled"


def is_active(name: str) -> bool:
    return pid_file(name).exists() and not has_exited(int(pid_file(name).read_text()))


def stop(name: str) -> None:
    if not pid_file(name).exists():
        return
    pid = int(pid_file(name).read_text())
    if not has_exited(pid):
        os.kill(pid, signal.SIGTERM)
    for _ in range(STOP_TIMEOUT_S * 50):
        if has_exited(pid):
            pid_file(name).unlink()
            return
        time.sleep(0.02)
    sys.exit(f"{name} did not stop within {STOP_TIMEOUT_S} s")


def has_exited(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def start(name: str) -> None:
    if is_active(name):
        return
    command, environment = read_unit(name)
    with (root / f"run/{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pid_file(name).write_text(str(process.pid))


def change_server(name: str) -> None:
    if action == "is-active" and not is_active(name):
        sys.exit(3)
    if action == "enable":
        enabled_file(name).touch()
    if action == "disable":
        enabled_file(name).unlink(missing_ok=True)
    if action in ("stop", "restart"):
        stop(name)
    if action in ("start", "restart") or (action == "enable" and "--now" in arguments):
        start(name)


def control_nginx() -> None:
    nginx_pid_file = root / "run/nginx.pid"
    is_running = nginx_pid_file.exists() and nginx_pid_file.read_text()
    if action == "is-active":
        sys.exit(0 if is_running else 3)
    command = [str(root / "programs/nginx"), *(["-s", "reload"] if is_running else [])]
    sys.exit(subprocess.run(command, check=False).returncode)


def run_command() -> None:
    options = [argument for argument in arguments if argument.startswith("--")]
    properties = dict(option.split("=", 2)[1:] for option in options if "--property=" in option)
    assert properties["User"] == "livebackend"
    environment = {"PATH": os.defpath}
    environment |= read_environment_file(Path(properties["EnvironmentFile"]))
    command = arguments[len(options) :]
    sys.exit(subprocess.run(command, env=environment, cwd=root, check=False).returncode)


if action == "run":
    run_command()
for name in [argument for argument in arguments if not argument.startswith("--")]:
    if name.startswith("livebackend@"):
        change_server(name)
    elif name == "nginx":
        control_nginx()
