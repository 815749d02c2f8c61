"""How the log looks: a line or a JSON object for each record, with its request's id.

A record may carry `fields`, a mapping: what a machine that reads the log sorts it by.
"""

import logging
import re
from datetime import UTC, datetime

import orjson

from livebackend.core.request_context import request_id

# Nobody logs these on purpose; but PostgreSQL's errors name the value of a key that is taken, and
# show a row whole that breaks a constraint.
_PHONE = re.compile("(?<![0-9])([0-9]{3})[0-9]{4}([0-9]{4})(?![0-9])")
_ROW = re.compile(r"Failing row contains \(.*\)")


class LineFormatter(logging.Formatter):
    """Formats lines whose format may name `%(request_id)s`; masks phones, and leaves out rows."""

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = request_id.get()
        return _discreet(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON, likewise; a traceback is one text in it."""

    def format(self, record: logging.LogRecord) -> str:
        shown = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "request": request_id.get(),
            "says": _discreet(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            shown["error"] = _discreet(self.formatException(record.exc_info))
        return orjson.dumps(shown, default=str).decode()


def _discreet(text: str) -> str:
    return _PHONE.sub(r"\1****\2", _ROW.sub("Failing row is not shown", text))
