"""Tests of the server of `pserve development.ini`, in real processes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.application import DEVELOPMENT_INI
from tests.support.servers import running_server, start_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture
def settings(new_database: Callable[[str], str], worker_id: str) -> dict[str, str]:
    return {"database.url": new_database(f"development_server_{worker_id}")}


def test_addresses_of_the_pages_are_logged(settings: dict[str, str], tmp_path: Path) -> None:
    with running_server(DEVELOPMENT_INI, tmp_path, settings, pserve=True) as server:
        lines = [f"API page: {server.address}/docs\n", f"demo: {server.address}/demo\n"]
        # A thread writes the log.
        wait_until(
            lambda: all(line in server.log.read_text() for line in lines), 10, "the addresses"
        )


def test_port_in_use_is_reported_in_one_line(settings: dict[str, str], tmp_path: Path) -> None:
    with running_server(DEVELOPMENT_INI, tmp_path, settings, pserve=True) as server:
        second_folder = tmp_path / "second"
        second_folder.mkdir()
        second_server, process = start_server(
            server.port, DEVELOPMENT_INI, second_folder, settings, pserve=True
        )
        assert process.wait(timeout=30) == 1
    assert second_server.log.read_text() == (
        f"host, port: cannot listen on 127.0.0.1:{server.port}: Address already in use."
        " For another port: make run PORT=7000\n"
    )
