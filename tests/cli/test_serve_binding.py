"""The CPUs that the processes and threads of `livebackend serve` can use."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.machine import process_tree
from tests.support.application import DEVELOPMENT_INI
from tests.support.pictures import PNG
from tests.support.raw_http import RawRequest, RawResponse
from tests.support.servers import Server, count_listening_sockets, running_server
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity"),
]
WAIT_S = 20
# With more, the start of the workers would take long.
MAX_CPUS = 2


@pytest.fixture
def cpus() -> Iterator[set[int]]:
    """The CPUs that the servers of the test can use."""
    all_cpus = os.sched_getaffinity(0)
    server_cpus = set(sorted(all_cpus)[:MAX_CPUS])
    os.sched_setaffinity(0, server_cpus)
    yield server_cpus
    os.sched_setaffinity(0, all_cpus)


@pytest.fixture
def settings(database_url: str, cpus: set[int]) -> dict[str, str]:
    return {"database.url": database_url, "server.workers": str(len(cpus))}


def cpus_of_threads(pid: int) -> set[frozenset[int]]:
    """Return the CPUs that each thread of a process can use."""
    cpus_of_threads = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # the thread has ended
            cpus_of_threads.add(frozenset(os.sched_getaffinity(int(task.name))))
    return cpus_of_threads


def cpus_of_workers(server: Server) -> list[set[frozenset[int]]]:
    """Return the CPUs that the threads of each ready worker can use."""
    count = len(server.workers)
    wait_until(lambda: count_listening_sockets(server) == count, WAIT_S, "ready workers")
    return sorted(map(cpus_of_threads, server.workers), key=str)


def test_each_worker_is_bound_to_another_cpu(
    cpus: set[int], settings: dict[str, str], tmp_path: Path
) -> None:
    with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
        assert cpus_of_workers(server) == [{frozenset({cpu})} for cpu in sorted(cpus)]
        assert os.sched_getaffinity(server.pid) == cpus


def test_workers_are_not_bound_with_the_setting_false(
    cpus: set[int], settings: dict[str, str], tmp_path: Path
) -> None:
    settings["server.bind_workers"] = "false"
    with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
        assert cpus_of_workers(server) == [{frozenset(cpus)}] * len(cpus)


def test_more_workers_than_cpus_are_not_bound(
    cpus: set[int], settings: dict[str, str], tmp_path: Path
) -> None:
    settings["server.workers"] = str(len(cpus) + 1)
    with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
        assert cpus_of_workers(server) == [{frozenset(cpus)}] * (len(cpus) + 1)


def test_replacement_of_a_killed_worker_is_bound_to_the_same_cpu(
    settings: dict[str, str], tmp_path: Path
) -> None:
    with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
        expected_cpus, workers = cpus_of_workers(server), server.workers
        killed = max(workers)
        os.kill(killed, signal.SIGKILL)
        wait_until(
            lambda: killed not in server.workers and len(server.workers) == len(workers),
            WAIT_S,
            "a new worker",
        )
        assert cpus_of_workers(server) == expected_cpus
        assert server.workers - workers


def test_decoder_process_can_use_all_cpus(
    cpus: set[int], settings: dict[str, str], tmp_path: Path
) -> None:
    settings["pictures.mode"] = "reencoded"
    with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
        cpus_of_workers(server)
        upload = RawRequest(
            "/upload",
            b'--x\r\nContent-Disposition: form-data; name="img"; filename="me.png"\r\n\r\n'
            + PNG
            + b"\r\n--x--\r\n",
            content_type="multipart/form-data; boundary=x",
        )
        assert RawResponse.exchange(server, upload.encode()).json["result"] == "0000"
        (decoder,) = set(process_tree(server.pid)) - {server.pid} - server.workers
        assert cpus_of_threads(decoder) == {frozenset(cpus)}


def test_thread_that_hashes_a_password_can_use_all_cpus(
    cpus: set[int], settings: dict[str, str], tmp_path: Path
) -> None:
    # A hash of this cost takes half a second.
    settings["passwords.cost"] = "13"
    login = RawRequest("/log", "userId=13800000001&password=harbour-42").encode()
    with running_server(DEVELOPMENT_INI, tmp_path, settings) as server:
        bound = cpus_of_workers(server)
        with server.connect() as connection:
            connection.sendall(login)
            wait_until(
                lambda: frozenset(cpus) in set().union(*map(cpus_of_threads, server.workers)),
                WAIT_S,
                "a thread that can use all CPUs",
            )
            assert connection.recv(100)
        assert cpus_of_workers(server) == bound
