"""Runs deploy/restart with real servers and nginx, for one server and for two."""

import fcntl
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from livebackend.database.engine import Database
from livebackend.development.embedded_postgres import EmbeddedPostgres
from tests.support.installed_machine import (
    ONE_SERVER,
    TWO_SERVERS,
    InstalledMachine,
    installed_machine,
)
from tests.support.known_requests import KnownRequests
from tests.support.machine import ROOT
from tests.support.nginx_faults import RESTART, restarts, start_servers
from tests.support.waiting import wait_until

THREADS = 4

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False)
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def installed(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> Iterator[InstalledMachine]:
    with installed_machine(tmp_path_factory.mktemp("machine"), postgres) as new_machine:
        yield new_machine


@pytest.fixture(scope="module")
def requests(installed: InstalledMachine) -> KnownRequests:
    start_servers(installed, "6543")
    known_requests = KnownRequests(installed.address, installed.certificate)
    known_requests.create_users()
    return known_requests


@pytest.fixture
def one_server(installed: InstalledMachine, requests: KnownRequests) -> InstalledMachine:
    """A machine with one server, which is ready, and with a spare server."""
    installed.check("systemctl stop livebackend@6553; systemctl disable livebackend@6553")
    start_servers(installed, "6543")
    installed.write_upstream(ONE_SERVER)
    installed.check("systemctl reload nginx")
    return installed


@pytest.fixture
def two_servers(installed: InstalledMachine, requests: KnownRequests) -> InstalledMachine:
    start_servers(installed, "6543", "6553")
    installed.write_upstream(TWO_SERVERS)
    installed.check("systemctl reload nginx")
    return installed


def restart_fails_with(installed: InstalledMachine, message: str) -> None:
    completed = installed.run(RESTART)
    assert completed.returncode == 1, completed
    assert message in completed.stderr, completed


def interrupt_restart(installed: InstalledMachine, condition: Callable[[], object]) -> None:
    """Kill the script as soon as the condition is true."""
    with installed.start(RESTART) as process:
        wait_until(condition, 120, "the state in which the script is killed")
        assert process.poll() is None
        process.kill()


def assert_all_requests_were_served(requests: KnownRequests, database_url: str) -> None:
    """Check that each request had its response, and that each gift was posted once."""
    outcome = requests.outcome
    assert outcome.wrong_responses == []
    assert outcome.sent_gifts > 50
    database = Database(database_url)
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM gifts")).scalar_one() == (
            outcome.sent_gifts
        )
    database.close()


def assert_only_the_first_server_runs(installed: InstalledMachine) -> None:
    assert installed.upstream_file.read_text() == installed.machine.relocate(ONE_SERVER)
    assert installed.enabled_servers() == {"6543"}
    assert installed.server_pid("6553") is None


def test_restart_of_one_server_loses_no_request(
    one_server: InstalledMachine, requests: KnownRequests, postgres: EmbeddedPostgres
) -> None:
    old_pid = one_server.server_pid("6543")
    restarts(one_server, requests, 1)
    assert one_server.server_pid("6543") != old_pid
    assert_only_the_first_server_runs(one_server)
    assert_all_requests_were_served(requests, postgres.url("livebackend"))


def test_interrupted_restart_of_one_server_is_completed_by_a_later_one(
    one_server: InstalledMachine, requests: KnownRequests, postgres: EmbeddedPostgres
) -> None:
    down_line = one_server.machine.relocate("127.0.0.1:6543 max_fails=0 down;")
    with requests.running(THREADS, pause_s=0.2):
        interrupt_restart(one_server, lambda: one_server.server_pid("6553"))
        assert one_server.enabled_servers() == {"6543", "6553"}
        time.sleep(1)  # a child process of the script has the lock until it ends
        interrupt_restart(one_server, lambda: down_line in one_server.upstream_file.read_text())
        one_server.check(f"sleep 1; {RESTART}")
    assert_only_the_first_server_runs(one_server)
    assert_all_requests_were_served(requests, postgres.url("livebackend"))


def test_interrupted_restart_of_two_servers_continues_with_the_server_that_is_down(
    two_servers: InstalledMachine, requests: KnownRequests, postgres: EmbeddedPostgres
) -> None:
    old_pids = {two_servers.server_pid(port) for port in ("6543", "6553")}
    down_line = two_servers.machine.relocate("127.0.0.1:6553 max_fails=0 down;")
    with requests.running(THREADS, pause_s=0.2):
        interrupt_restart(two_servers, lambda: down_line in two_servers.upstream_file.read_text())
        two_servers.check(f"sleep 1; {RESTART}")
    assert_all_requests_were_served(requests, postgres.url("livebackend"))
    assert old_pids.isdisjoint({two_servers.server_pid(port) for port in ("6543", "6553")})
    assert two_servers.upstream_file.read_text() == two_servers.machine.relocate(TWO_SERVERS)
    assert two_servers.enabled_servers() == {"6543", "6553"}


def test_old_server_stays_if_the_new_one_does_not_become_ready(
    one_server: InstalledMachine,
) -> None:
    program = one_server.root / "opt/livebackend/bin/livebackend"
    script = one_server.root / "opt/livebackend/bin/livebackend-restart"
    texts = program.read_text(), script.read_text()
    old_pid = one_server.server_pid("6543")
    program.write_text(texts[0].replace("exec", '[ "$1" = serve ] && exec sleep 600\nexec'))
    script.write_text(texts[1].replace("ready_timeout_s=60", "ready_timeout_s=2"))
    try:
        restart_fails_with(one_server, "did not become ready, see: journalctl")
    finally:
        program.write_text(texts[0])
        script.write_text(texts[1])
    assert one_server.server_pid("6543") == old_pid
    assert_only_the_first_server_runs(one_server)


def test_wrong_setting_prevents_the_restart(one_server: InstalledMachine) -> None:
    old_pid = one_server.server_pid("6543")
    environment_file = one_server.root / "etc/livebackend/livebackend.env"
    settings = environment_file.read_text()
    environment_file.write_text(f"{settings}LIVEBACKEND_SERVER_THREADS=many\n")
    try:
        restart_fails_with(one_server, "server.threads")
    finally:
        environment_file.write_text(settings)
    assert one_server.server_pid("6543") == old_pid
    assert_only_the_first_server_runs(one_server)


def test_settings_are_read_like_systemd_reads_them(
    one_server: InstalledMachine, postgres: EmbeddedPostgres
) -> None:
    old_pid = one_server.server_pid("6543")
    environment_file = one_server.root / "etc/livebackend/livebackend.env"
    settings = environment_file.read_text()
    url = postgres.url("livebackend")
    assert "&" in url
    assert f'"{url}"' in settings
    # A shell would expand the first value, and end the second one at the `&`.
    environment_file.write_text(
        'LIVEBACKEND_SMS_TEMPLATE="$undefined"\n' + settings.replace(f'"{url}"', url)
    )
    try:
        one_server.check(RESTART)
    finally:
        environment_file.write_text(settings)
    assert one_server.server_pid("6543") != old_pid
    assert_only_the_first_server_runs(one_server)


def test_other_process_on_the_port_of_the_spare_server_prevents_the_restart(
    one_server: InstalledMachine,
) -> None:
    old_pid = one_server.server_pid("6543")
    port = one_server.ports["6553"]
    with socket.create_server(("127.0.0.1", port)):
        restart_fails_with(one_server, f"another process listens on port {port}")
    assert one_server.server_pid("6543") == old_pid
    assert_only_the_first_server_runs(one_server)


def test_second_restart_at_the_same_time_is_refused(one_server: InstalledMachine) -> None:
    lock_file = one_server.root / "run/livebackend-restart.lock"
    with lock_file.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        restart_fails_with(one_server, "another livebackend-restart is running")
    assert_only_the_first_server_runs(one_server)


def test_invalid_nginx_configuration_prevents_the_restart(one_server: InstalledMachine) -> None:
    broken_file = one_server.root / "etc/nginx/conf.d/broken.conf"
    broken_file.write_text("server {")
    old_pid = one_server.server_pid("6543")
    spare_log = one_server.root / f"run/livebackend@{one_server.ports['6553']}.log"
    spare_log.unlink(missing_ok=True)
    try:
        restart_fails_with(one_server, "nginx cannot be reloaded, so no server was restarted")
    finally:
        broken_file.unlink()
    assert not spare_log.exists()
    assert one_server.server_pid("6543") == old_pid
    assert_only_the_first_server_runs(one_server)


def test_spare_server_stops_if_nginx_cannot_use_it(one_server: InstalledMachine) -> None:
    broken_file = one_server.root / "etc/nginx/conf.d/broken.conf"
    old_pid = one_server.server_pid("6543")
    try:
        with one_server.start(RESTART) as process:
            wait_until(lambda: one_server.server_pid("6553"), 120, "the spare server")
            broken_file.write_text("server {")
            _, errors = process.communicate(timeout=120)
    finally:
        broken_file.unlink(missing_ok=True)
    assert process.returncode == 1
    assert "nginx was not reloaded, see: nginx -t" in errors
    assert "the spare server cannot be used, so no server was restarted" in errors
    assert one_server.server_pid("6543") == old_pid
    assert_only_the_first_server_runs(one_server)


def test_only_server_is_not_restarted_without_a_spare_server(one_server: InstalledMachine) -> None:
    first_line = "server 127.0.0.1:6543 max_fails=0;\n"
    one_server.write_upstream(first_line)
    restart_fails_with(one_server, "nginx has no other server that is ready")
    assert one_server.upstream_file.read_text() == one_server.machine.relocate(first_line)


def test_documented_command_marks_the_second_server_as_spare(tmp_path: Path) -> None:
    document = (ROOT / "docs/operations.md").read_text()
    (command,) = [line for line in document.splitlines() if "; # spare" in line and "sed" in line]
    upstream_file = tmp_path / "upstream.conf"
    upstream_file.write_text(TWO_SERVERS)
    command = command.replace("/etc/nginx/livebackend-upstream.conf", str(upstream_file))
    subprocess.run(command, shell=True, check=True)
    assert upstream_file.read_text() == ONE_SERVER
