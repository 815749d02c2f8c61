"""Logging never blocks, whatever happens to its output."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from livebackend.core.request_context import request_id
from livebackend.monitoring import log_queue
from livebackend.monitoring.log_formatters import JsonFormatter, LineFormatter
from livebackend.monitoring.log_queue import LogQueue
from tests.support.application import PRODUCTION_INI
from tests.support.servers import free_port, hardened_settings
from tests.support.waiting import wait_until

WAIT_S = 10


class BlockedHandler(logging.Handler):
    """Stores formatted records; blocks until `resume` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.resume, self.reached = threading.Event(), threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        assert self.resume.wait(WAIT_S)
        self.lines.append(self.format(record))


class FailingHandler(BlockedHandler):
    """Reports an error, as on a full disk, until `resume` is set."""

    def emit(self, record: logging.LogRecord) -> None:
        if self.resume.is_set():
            super().emit(record)
        else:
            self.handleError(record)


class RaisingHandler(BlockedHandler):
    """Raises an error of its own until `resume` is set."""

    def emit(self, record: logging.LogRecord) -> None:
        if not self.resume.is_set():
            raise ZeroDivisionError
        super().emit(record)


class ExitingHandler(BlockedHandler):
    """Raises SystemExit, as some libraries do, until `resume` is set."""

    def emit(self, record: logging.LogRecord) -> None:
        if not self.resume.is_set():
            raise SystemExit
        super().emit(record)


class LockingHandler(BlockedHandler):
    """Uses its lock as the handlers of each Python version do."""

    def handle(self, record: logging.LogRecord) -> bool:
        self.acquire()  # up to Python 3.12
        self.release()
        lock: Any = self.lock
        with lock:  # since Python 3.13
            self.emit(record)
        return True


@pytest.fixture
def new_logger() -> Iterator[Callable[..., tuple[logging.Logger, LogQueue]]]:
    """A function that returns a logger, and the queue of its handler."""
    loggers: list[logging.Logger] = []

    def create(handler: logging.Handler, **options: int) -> tuple[logging.Logger, LogQueue]:
        logger = logging.Logger("test")  # noqa: LOG001  # without handlers of the root
        loggers.append(logger)
        records = LogQueue(handler, **options)
        logger.addHandler(records)
        return logger, records

    yield create
    for logger in loggers:
        for handler in logger.handlers:
            assert isinstance(handler, LogQueue)
            handler.flush_until(time.monotonic() + 1)


NewLogger = Callable[..., tuple[logging.Logger, LogQueue]]


def test_records_keep_their_order_and_the_id_of_their_request(new_logger: NewLogger) -> None:
    handler = BlockedHandler()
    handler.setFormatter(LineFormatter("%(request_id)s %(message)s"))
    logger, records = new_logger(handler)
    for number in range(100):
        token = request_id.set(f"r{number}")
        logger.warning("message %s", number)
        request_id.reset(token)
    handler.resume.set()
    records.flush_until(time.monotonic() + WAIT_S)
    assert handler.lines == [f"r{number} message {number}" for number in range(100)]


def test_blocked_output_drops_records_and_reports_their_number(new_logger: NewLogger) -> None:
    handler = BlockedHandler()
    logger, records = new_logger(handler, max_records=10)
    logger.warning("first")
    assert handler.reached.wait(WAIT_S)
    for number in range(30):
        logger.warning("message %s", number)
    assert records.dropped_count == 20
    handler.resume.set()
    records.flush_until(time.monotonic() + WAIT_S)
    report = "log: 20 records were not written, the output was blocked or full"
    assert handler.lines.count(report) == 1
    assert [line for line in handler.lines if line != report] == [
        "first",
        *(f"message {number}" for number in range(10)),
    ]


@pytest.mark.parametrize("handler_class", [FailingHandler, RaisingHandler])
def test_records_that_cannot_be_written_are_counted_and_reported(
    handler_class: type[BlockedHandler],
    new_logger: NewLogger,
    capfd: pytest.CaptureFixture[str],
) -> None:
    handler = handler_class()
    logger, records = new_logger(handler)
    for _ in range(5):
        logger.warning("lost")
    wait_until(lambda: records.dropped_count == 5, WAIT_S, "the errors")
    handler.resume.set()
    logger.warning("written")
    records.flush_until(time.monotonic() + WAIT_S)
    assert handler.lines == [
        "written",
        "log: 5 records were not written, the output was blocked or full",
    ]
    assert capfd.readouterr() == ("", "")  # no traceback of logging.raiseExceptions


def test_record_that_cannot_be_formatted_is_reported_in_the_log(
    new_logger: NewLogger, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = BlockedHandler()
    handler.setFormatter(JsonFormatter())
    handler.resume.set()
    logger, records = new_logger(handler)
    logger.warning("%d", "not a number")
    records.flush_until(time.monotonic() + WAIT_S)
    assert "cannot be formatted: TypeError" in handler.lines[0]
    assert capfd.readouterr().err == ""


def test_handler_that_uses_its_lock_writes_records(new_logger: NewLogger) -> None:
    handler = LockingHandler()
    handler.resume.set()
    logger, records = new_logger(handler)
    logger.warning("written")
    records.flush_until(time.monotonic() + WAIT_S)
    assert (handler.lines, records.dropped_count) == (["written"], 0)


def test_writer_continues_if_its_own_report_cannot_be_formatted(new_logger: NewLogger) -> None:
    class ReportsNotFormattable(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            if record.name == log_queue.__name__:
                raise KeyError("field")
            return super().format(record)

    handler = FailingHandler()
    handler.setFormatter(ReportsNotFormattable())
    logger, records = new_logger(handler)
    logger.warning("lost")
    wait_until(lambda: records.dropped_count == 1, WAIT_S, "the error")
    handler.resume.set()
    logger.warning("%d", "not a number")
    logger.warning("last")
    records.flush_until(time.monotonic() + WAIT_S)
    assert "cannot be formatted: TypeError" in handler.lines[0]
    assert handler.lines[1:] == [
        "log: 1 records were not written, the output was blocked or full",
        "last",
    ]


def test_writer_starts_again_after_an_unexpected_error(new_logger: NewLogger) -> None:
    handler = ExitingHandler()
    logger, records = new_logger(handler)
    logger.warning("lost")
    wait_until(lambda: records.writer_thread.failures == 1, WAIT_S, "the error")
    handler.resume.set()
    logger.warning("written")
    wait_until(lambda: "written" in handler.lines, WAIT_S, "the record")


def test_flush_of_a_blocked_output_ends_at_its_deadline(new_logger: NewLogger) -> None:
    handler = BlockedHandler()
    logger, records = new_logger(handler, max_records=1)
    for _ in range(5):
        logger.warning("x")
    records.flush_until(time.monotonic() + 0.05)
    assert handler.lines == []
    handler.resume.set()


def test_level_and_filters_of_the_handler_apply(new_logger: NewLogger) -> None:
    handler = BlockedHandler()
    handler.resume.set()
    handler.setLevel(logging.ERROR)
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logger, records = new_logger(handler)
    logger.warning("below the level")
    logger.error("secret")
    logger.error("shown")
    records.flush_until(time.monotonic() + WAIT_S)
    assert handler.lines == ["shown"]


def test_handlers_without_a_logging_configuration_are_not_changed() -> None:
    handler = logging.StreamHandler(io.StringIO())
    handler.__class__ = type("CapturingHandler", (logging.StreamHandler,), {})
    logging.root.addHandler(handler)
    try:
        log_queue.write_logs_in_background()
        assert handler in logging.root.handlers
    finally:
        logging.root.removeHandler(handler)


# A process with the logging of production.ini, whose stderr is the pipe of the test.
LOGGING_PROCESS = """
import logging, sys, threading, time, warnings
from logging.config import fileConfig
from livebackend.monitoring.log_queue import dropped_log_records, write_logs_in_background
fileConfig(sys.argv[1])
write_logs_in_background()
write_logs_in_background()
log = logging.getLogger("livebackend.test")
for number in range(int(sys.argv[2])):
    log.warning("message %s", number)
warnings.warn("a warning")
def fail():
    raise KeyError("error of a thread")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
print(dropped_log_records() > 0, flush=True)
"""
# More records than a queue and a pipe can take, and fewer than a queue can take.
TOO_MANY_RECORDS, FEW_RECORDS = "20000", "5000"

# A forked process whose threads must be able to log.
FORKING_PROCESS = """
import logging, os, sys, threading
from livebackend.monitoring.log_queue import write_logs_in_background
logging.basicConfig()
write_logs_in_background()
if process_id := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]))
thread = threading.Thread(target=logging.getLogger, args=["new"], daemon=True)
thread.start()
thread.join(10)
os._exit(thread.is_alive())
"""


@pytest.mark.processes
def test_process_whose_log_is_not_read_runs_and_ends() -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", LOGGING_PROCESS, str(PRODUCTION_INI), TOO_MANY_RECORDS],
        stderr=writer,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == ("True\n", 0)
    os.close(reader)


@pytest.mark.processes
def test_lines_of_two_processes_are_not_mixed_in_one_pipe() -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-c", LOGGING_PROCESS, str(PRODUCTION_INI), FEW_RECORDS]
    processes = [
        subprocess.Popen(command, stderr=writer, stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    os.close(writer)
    with open(reader, "rb") as lines:  # noqa: PTH123
        messages = [json.loads(line)["message"] for line in lines]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert messages.count("message 4999") == 2


def test_output_that_does_not_block_loses_only_the_records_that_are_not_written() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    batch = log_queue.StreamBatch(writer)
    for _ in range(100):
        batch.write("x" * 999 + "\n")
    failed_count = batch.write_out()
    os.close(writer)
    with open(reader, "rb") as lines:  # noqa: PTH123
        written_count = sum(line == b"x" * 999 + b"\n" for line in lines)
    assert 0 < written_count == 100 - failed_count


@pytest.mark.processes
@pytest.mark.parametrize("output", ["file", "closed pipe", "full disk"])
def test_process_with_any_log_output_runs_and_ends(output: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = tmp_path / "log"
    with log.open("w") as file, open("/dev/full", "w") as full:  # noqa: PTH123
        stderr = {"file": file.fileno(), "closed pipe": writer, "full disk": full.fileno()}[output]
        process = subprocess.run(
            [sys.executable, "-c", LOGGING_PROCESS, str(PRODUCTION_INI), FEW_RECORDS],
            stderr=stderr,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    os.close(writer)
    assert process.returncode == 0
    if output == "file":
        text = log.read_text()
        assert process.stdout == "False\n"
        assert "a warning" in text
        assert "error of a thread" in text


@pytest.mark.processes
def test_forked_process_can_create_loggers() -> None:
    # Since Python 3.12, os.fork warns in a process with threads.
    command = [sys.executable, "-W", "ignore", "-c", FORKING_PROCESS]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.processes
def test_server_responds_while_its_log_is_not_read(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    environment = os.environ | {
        f"LIVEBACKEND_{name.upper().replace('.', '_')}": value
        for name, value in {
            **hardened_settings(database_url),
            "metrics.address": "",
            "server.workers": "1",
            "data.dir": str(tmp_path),
        }.items()
    }
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "livebackend.cli", "serve", str(PRODUCTION_INI), f"--port={port}"],
        env=environment,
        cwd=tmp_path,
        stderr=writer,
    )
    os.close(writer)
    url = f"http://127.0.0.1:{port}/list"

    def responds() -> bool:
        try:
            return bool(urlopen(url, data=b"x=1", timeout=10).status == 200)
        except OSError as error:
            return getattr(error, "code", 0) == 404

    try:
        wait_until(responds, 60, "the server")
        # A pipe has 64 kB; the log of a request has about 250 bytes.
        assert all(responds() for _ in range(600))
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(reader)
