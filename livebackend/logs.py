"""How a line of the log looks: it bears the id of its request, and no phone whole."""

import logging
import re
from contextvars import ContextVar

# "-" outside of any request.
request_id: ContextVar[str] = ContextVar("request_id", default="-")


# Nobody logs one on purpose; but PostgreSQL's errors name the value of a key that is taken.
_PHONE = re.compile("(?<![0-9])([0-9]{3})[0-9]{4}([0-9]{4})(?![0-9])")


class LineFormatter(logging.Formatter):
    """Formats lines whose format may name `%(request_id)s`, and masks phones in them."""

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = request_id.get()
        return _PHONE.sub(r"\1****\2", super().format(record))
