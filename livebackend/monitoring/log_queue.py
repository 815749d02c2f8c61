"""Log handlers that never block: records are written by a background thread.

A log record must not wait for its output: a pipe that no program reads would block every request,
and so would a slow disk.
"""

import atexit
import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from logging.handlers import QueueHandler
from typing import Any

from livebackend.core.supervised_thread import SupervisedThread

log = logging.getLogger(__name__)

# Maximum number of records that wait for one output; further records are dropped. A record with a
# traceback has some kilobytes.
_MAX_RECORDS = 10_000
# Pause of the writer when its queue is empty. Without it, each request would wake the writer, and
# the two threads would compete for the interpreter's lock (GIL): 0.1 ms of CPU time per request.
_PAUSE_S = 0.05
# The writer collects up to this number of queued records before it writes them.
_MAX_BATCH_RECORDS = 256
# Seconds that the end of the process waits until the records of all outputs are written.
_EXIT_TIMEOUT_S = 2.0

_queues: list["LogQueue"] = []


def write_logs_in_background() -> None:
    """Put a queue in front of each configured log handler, and log direct messages of Python.

    Warnings and errors of threads would otherwise be written directly to stderr. Handlers that have
    a queue are not changed, nor are handlers that no logging configuration has created.
    """
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    queues: dict[logging.Handler, LogQueue] = {}
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            for index, handler in enumerate(logger.handlers):
                if _is_configured(handler):
                    if handler not in queues:
                        queues[handler] = LogQueue(handler)
                    logger.handlers[index] = queues[handler]
    if queues:
        if not _queues:
            atexit.register(_flush)
        _queues.extend(queues.values())
        logging.captureWarnings(capture=True)
        threading.excepthook = _log_thread_error
        sys.unraisablehook = _log_unraisable_error


def dropped_log_records() -> int:
    """Return the number of records of this process that were not written."""
    return sum(log_queue.dropped_count for log_queue in _queues)


def log_writer_threads() -> list[SupervisedThread]:
    """Return the threads of this process that write the log."""
    return [log_queue.writer_thread for log_queue in _queues]


class LogQueue(QueueHandler):
    """Formats records, and queues them for another handler.

    Records are formatted and filtered in the thread that logs them, because the formatters add the
    id of the current request.
    """

    def __init__(self, handler: logging.Handler, *, max_records: int = _MAX_RECORDS) -> None:
        # SimpleQueue needs a tenth of the time of Queue, but has no bound of its own.
        self._records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._max_records = max_records
        super().__init__(self._records)
        self._dropped_count = 0
        self._writer = _LogWriter(self, self._records, handler, max_records=max_records)
        self.setLevel(handler.level)
        self.setFormatter(handler.formatter)
        self.filters = handler.filters
        # The handler gets formatted text, from one thread. Without a lock, the end of the process
        # does not wait for a blocked handler.
        handler.formatter, handler.filters = None, []
        handler.lock = _NoLock()  # type: ignore[assignment]
        handler.handleError = self._writer.count_error  # type: ignore[assignment, method-assign]
        self._writer.thread.start()

    @property
    def writer_thread(self) -> SupervisedThread:
        """The thread that writes the records."""
        return self._writer.thread

    @property
    def dropped_count(self) -> int:
        """The number of records that were not written."""
        return self._dropped_count + self._writer.failed_count

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record; drop it if the queue is full. The caller has the lock of the handler."""
        if self._records.qsize() < self._max_records:
            self._records.put(record)
        else:
            self._dropped_count += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return a copy of a record with the formatted text, several times faster than copy()."""
        text = self.format(record)
        prepared = logging.LogRecord.__new__(logging.LogRecord)
        prepared.__dict__.update(record.__dict__)
        prepared.__dict__.update(
            message=text, msg=text, args=None, exc_info=None, exc_text=None, stack_info=None
        )
        return prepared

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Log that a record cannot be formatted; the default writes to stderr and can block."""
        source = f"{record.pathname}:{record.lineno}"
        message = f"log: a record of {source} cannot be formatted: {sys.exc_info()[1]!r}"
        self.enqueue(self.own_record(logging.ERROR, message))

    def own_record(self, level: int, message: str) -> logging.LogRecord:
        """Return a record of this module; it has only the message if it cannot be formatted."""
        fields = {"name": __name__, "levelno": level, "levelname": logging.getLevelName(level)}
        record = logging.makeLogRecord({**fields, "msg": message})
        try:
            return self.prepare(record)
        except Exception:  # noqa: BLE001  # a formatter of the configuration can raise any error
            return record

    def flush_until(self, deadline: float) -> None:
        """Wait until all records are written, or until `deadline` (time.monotonic())."""
        self._writer.stop_until(deadline)


class _LogWriter:
    """Writes the records of a queue in a background thread."""

    def __init__(
        self,
        log_queue: LogQueue,
        records: queue.SimpleQueue[logging.LogRecord | None],
        handler: logging.Handler,
        *,
        max_records: int,
    ) -> None:
        self._log_queue = log_queue
        self._records = records
        self._handler = handler
        self._max_records = max_records
        self._batch = _replace_stream(handler)
        self.failed_count = 0
        self.thread = SupervisedThread("log writer", self._run)
        self._reported_count = 0

    def count_error(self, _record: logging.LogRecord) -> None:
        """Count a record that the handler could not write; the default writes to stderr."""
        self.failed_count += 1

    def stop_until(self, deadline: float) -> None:
        """End the thread after the queued records, or leave it at the deadline."""
        self._records.put(None)
        self.thread.close(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (record := self._records.get()) is not None:
            if self._try_write(record) and self._records.qsize() <= self._max_records // 2:
                self._report_dropped_records()
            if self._records.empty():
                self.thread.closing.wait(_PAUSE_S)
        self._write_out()

    def _try_write(self, record: logging.LogRecord) -> bool:
        """Write a record, or add it to a batch; return whether all records so far are written."""
        failed_count = self.failed_count
        try:
            self._handler.handle(record)
        except Exception:  # noqa: BLE001  # a handler of the configuration can raise any error
            self.failed_count += 1
        is_written = self._batch is None
        if self._batch and (self._records.empty() or self._batch.is_full):
            self._write_out()
            is_written = True
        return is_written and self.failed_count == failed_count

    def _write_out(self) -> None:
        if self._batch:
            self.failed_count += self._batch.write_out()

    def _report_dropped_records(self) -> None:
        dropped_count = self._log_queue.dropped_count
        count = dropped_count - self._reported_count
        if count:
            message = f"log: {count} records were not written, the output was blocked or full"
            failed_count = self.failed_count
            self._try_write(self._log_queue.own_record(logging.WARNING, message))
            self._write_out()
            if self.failed_count == failed_count:
                self._reported_count = dropped_count


class _NoLock:
    """Replaces the lock of a handler that only one thread uses."""

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""

    def _at_fork_reinit(self) -> None:
        """Do nothing; `logging` calls this method in a forked process."""


class StreamBatch:
    """A stream that collects records, and writes them to a file descriptor.

    The streams of Python have a lock. A thread that is blocked in a write holds it, and the
    interpreter then aborts at its end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._records: list[bytes] = []

    @property
    def is_full(self) -> bool:
        return len(self._records) >= _MAX_BATCH_RECORDS

    def write(self, text: str) -> None:
        self._records.append(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Do nothing: a handler calls this method after each record."""

    def write_out(self) -> int:
        """Write the collected records; return the number of those that cannot be written."""
        records, self._records = self._records, []
        return sum(self._write(chunk) for chunk in _chunks(records))

    def _write(self, records: Sequence[bytes]) -> int:
        content = b"".join(records)
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
        except OSError:
            return len(records)
        return 0


def _chunks(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the records in chunks of at most PIPE_BUF bytes, or of one record.

    Several processes write to one pipe. Longer writes would be mixed with theirs.
    """
    chunk: list[bytes] = []
    size = 0
    for record in records:
        if chunk and size + len(record) > select.PIPE_BUF:
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record)
    if chunk:
        yield chunk


def _is_configured(handler: logging.Handler) -> bool:
    # A section of an ini file gives its handler a name; basicConfig() does not.
    return not isinstance(handler, QueueHandler) and bool(
        handler.name or type(handler) is logging.StreamHandler
    )


def _replace_stream(handler: logging.Handler) -> StreamBatch | None:
    """Make a handler of stdout or stderr write to a batch; return the batch."""
    if not isinstance(handler, logging.StreamHandler):
        return None
    if handler.stream is None or handler.stream not in (sys.__stdout__, sys.__stderr__):
        return None
    handler.stream = batch = StreamBatch(handler.stream.fileno())
    return batch


def _flush() -> None:
    deadline = time.monotonic() + _EXIT_TIMEOUT_S
    for log_queue in _queues:
        log_queue.flush_until(deadline)


def _log_thread_error(error: threading.ExceptHookArgs) -> None:
    name = error.thread.name if error.thread else "unknown"
    log.error("thread %s: unexpected error", name, exc_info=error.exc_value)


def _log_unraisable_error(error: Any) -> None:
    log.error("%s: %r", error.err_msg or "ignored error", error.object, exc_info=error.exc_value)
