"""The files with which workers share metrics, also on a full file system."""

import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from livebackend.monitoring.metrics_files import MetricsFile, MetricsFiles
from tests.support.application import PRODUCTION_INI
from tests.support.pictures import PNG
from tests.support.servers import free_port, hardened_settings, running_server
from tests.support.small_disk import CannotMount, filled, small_disk
from tests.support.waiting import wait_until


@pytest.fixture(name="disk")
def mounted_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    try:
        with small_disk(tmp_path / "small", 1) as folder:
            yield folder
    except CannotMount as error:
        pytest.skip(str(error))


def values_in(path: Path) -> dict[str, float]:
    read_all_values: Any = MmapedDict.read_all_values_from_file
    return {key: value for key, value, _, _ in read_all_values(path)}


def test_prometheus_client_reads_the_values_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    file = MetricsFile(str(path))
    keys = [f'["a", "a_total", {{"x": "{"y" * length}"}}, "help"]' for length in range(20)]
    for number, key in enumerate(keys):
        file.write_value(key, number, 0)
    assert not path.exists()
    file.write()
    assert values_in(path) == {key: number for number, key in enumerate(keys)}
    assert file.read_value(keys[3]) == (3, 0)
    file.write_value(keys[3], 99, 0)
    file.write_value(keys[0].replace("a_total", "é_total"), 7, 0)
    assert values_in(path)[keys[3]] == 3
    file.write()
    assert (values_in(path)[keys[3]], len(values_in(path))) == (99, 21)
    collector_class: Any = MultiProcessCollector
    metrics = list(collector_class(None, path=str(tmp_path)).collect())
    assert sum(sample.value for metric in metrics for sample in metric.samples) == 190 - 3 + 99 + 7


def test_process_with_the_id_of_an_ended_process_continues_its_counters(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    for total in (1, 2):
        file = MetricsFile(str(path))
        value, _ = file.read_value("key")
        file.write_value("key", value + 1, 0)
        file.write()
        assert values_in(path) == {"key": total}


def test_damaged_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    path.write_bytes(b"\xff" * 100)
    file = MetricsFile(str(path))
    file.write_value("key", 1, 0)
    file.write()
    assert values_in(path) == {"key": 1}


def test_file_that_cannot_be_written_does_not_prevent_the_others(tmp_path: Path) -> None:
    files = MetricsFiles()
    (tmp_path / "counter_1.db").mkdir()
    for name in ("counter_1.db", "gauge_1.db"):
        files.open(str(tmp_path / name)).write_value("key", 1, 0)
    with pytest.raises(IsADirectoryError):
        files.write()
    assert values_in(tmp_path / "gauge_1.db") == {"key": 1}


def test_each_file_has_space_for_further_keys(tmp_path: Path) -> None:
    path = tmp_path / "histogram_1.db"
    file = MetricsFile(str(path))
    for number in range(5000):
        file.write_value(f"key {number}", number, 0)
        if number % 500 == 0:
            file.write()
            # The first four bytes are the length of the content.
            length = int.from_bytes(path.read_bytes()[:4], sys.byteorder)
            assert path.stat().st_blocks * 512 >= length + 32_768


def test_threads_write_a_file_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = MetricsFiles()
    files.open(str(tmp_path / "counter_1.db")).write_value("key", 1, 0)
    other_thread = threading.Thread(target=files.write)
    renamed: list[Path] = []
    rename = Path.rename

    def rename_later(path: Path, target: Path) -> Path:
        renamed.append(path)
        if len(renamed) == 1:
            other_thread.start()
            other_thread.join(0.3)  # without a lock, it would rename the file now
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_later)
    files.write()
    other_thread.join(10)
    assert len(renamed) == 1
    assert values_in(tmp_path / "counter_1.db") == {"key": 1}


def test_write_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = MetricsFiles(lock_timeout_s=0.01)
    file = files.open(str(tmp_path / "counter_1.db"))
    monkeypatch.setattr(file, "write", files.write)  # a write during a write
    files.write()


@pytest.mark.processes
def test_full_disk_affects_only_files_without_space(disk: Path) -> None:
    files = MetricsFiles()
    paths = [disk / f"{kind}_1.db" for kind in ("counter", "gauge", "histogram")]
    opened = [files.open(str(path)) for path in paths]
    for file in opened:
        file.write_value("key", 1, 0)
    files.write()
    with filled(disk):
        for file in opened:
            file.write_value("key", 2, 0)
        for number in range(5000):
            opened[1].write_value(f"key {number}", number, 0)
        opened[2].write_value("new key", 1, 0)
        with pytest.raises(OSError, match="No space left"):
            files.write()
    assert [values_in(path)["key"] for path in paths] == [2, 2, 2]
    assert values_in(paths[2])["new key"] == 1


@pytest.mark.processes
def test_existing_file_is_updated_on_a_full_disk(disk: Path) -> None:
    path = disk / "counter_1.db"
    file, late_file = MetricsFile(str(path)), MetricsFile(str(disk / "gauge_2.db"))
    file.write_value("key", 1, 0)
    file.write()
    with filled(disk):
        for number in range(500):
            file.write_value(f"key {number}", number, 0)
        file.write()
        assert len(values_in(path)) == 501
        late_file.write_value("key", 1, 0)
        with pytest.raises(OSError, match="No space left"):
            late_file.write()
    late_file.write()
    assert values_in(disk / "gauge_2.db") == {"key": 1}


@pytest.mark.processes
def test_full_disk_of_temporary_files_and_pictures_affects_only_uploads(
    database_url: str, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(disk))
    settings = {
        **hardened_settings(database_url),
        "metrics.address": f"127.0.0.1:{free_port()}",
        "server.workers": "1",
        "data.dir": str(disk / "data"),
    }
    (disk / "data").mkdir()
    with running_server(PRODUCTION_INI, tmp_path, settings) as server:
        send = partial(requests.post, timeout=30)
        wait_until(lambda: len(server.workers) == 1, 30, "the worker")
        workers = server.workers
        with filled(disk):
            for number in range(30):
                login = {"userId": "13800000001", "password": f"wrong {number}"}
                for path in ("log", "list", "room"):
                    assert send(f"{server.address}/{path}", data=login).status_code < 500
            upload = send(f"{server.address}/upload", files={"img": ("a.png", PNG)})
            assert (upload.status_code, upload.json()["result"]) == (200, "0006")
            assert requests.get(f"{server.address}/readyz", timeout=10).status_code == 200
            assert server.workers == workers
