"""Log formatters for text lines and JSON.

The formatters add the request id and mask phones. A record can have an attribute `fields`, a
mapping whose items the JSON formatter adds to the JSON object.
"""

import logging
import re
from datetime import UTC, datetime

import orjson

from livebackend.core.request_context import request_id

# These patterns find personal data in log messages. PostgreSQL's error messages contain the value
# of a duplicate key, such as a phone, and the complete row that violates a constraint.
_PHONE = re.compile("(?<![0-9])([0-9]{3})[0-9]{4}([0-9]{4})(?![0-9])")
_FAILING_ROW = re.compile(r"Failing row contains \(.*\)")


class LineFormatter(logging.Formatter):
    """Formats text lines; the format can contain `%(request_id)s`."""

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = request_id.get()
        return _mask(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON, with a traceback in `error`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname,
            "logger": record.name,
            "message": _mask(record.getMessage()),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["error"] = _mask(self.formatException(record.exc_info))
        return orjson.dumps(entry, default=str).decode()


def _mask(text: str) -> str:
    """Mask phones and remove rows from PostgreSQL's messages."""
    if "Failing row" in text:
        text = _FAILING_ROW.sub("Failing row removed", text)
    return _PHONE.sub(r"\1****\2", text)
