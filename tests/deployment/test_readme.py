"""Runs the production commands of README.md in an isolated environment."""

from pathlib import Path

import pytest

from livebackend.development.embedded_postgres import EmbeddedPostgres
from tests.support.machine import ROOT, Shell, fill_in_settings, machine
from tests.support.markdown import Page

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def production_commands() -> list[str]:
    (block,) = [
        block for block in Page(ROOT / "README.md").fences("sh") if "livebackend serve" in block
    ]
    return block.splitlines()


def test_six_commands_install_and_start_a_server(tmp_path: Path) -> None:
    *installation, serve_command = production_commands()
    assert len(installation) == 5
    postgres = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    postgres.start()
    with machine(tmp_path) as test_machine:
        shell = Shell(test_machine.checkout, test_machine.environment(postgres))
        try:
            for command in installation:
                exit_code, output = shell.run(test_machine.relocate(command))
                assert exit_code == 0, f"{command}\n{output}"
                if "livebackend init" in command:
                    fill_in_settings(test_machine, postgres)
            port = test_machine.ports["6543"]
            # The server runs in the background and ends at the latest after a minute.
            background_command = f"timeout 60 {serve_command} --port {port} > server.log 2>&1 &"
            shell.run(test_machine.relocate(background_command))
            exit_code, output = shell.run(
                "curl --fail --silent --retry 30 --retry-delay 1 --retry-all-errors"
                f" --data 'userId=13800000001&password=x' http://127.0.0.1:{port}/log"
            )
            assert exit_code == 0, (test_machine.checkout / "server.log").read_text()
            assert output.strip() == '{"result":"0007","message":null}'
            assert shell.run("kill %1; wait %1")[0] == 0
        finally:
            shell.close()
    postgres.close()
