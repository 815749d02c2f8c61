"""How a line of the log looks: it bears the id of its request, and no phone whole."""

import logging
import re
from contextvars import ContextVar

# "-" outside of any request.
request_id: ContextVar[str] = ContextVar("request_id", default="-")


# Nobody logs these on purpose; but PostgreSQL's errors name the value of a key that is taken, and
# show a row whole that breaks a constraint.
_PHONE = re.compile("(?<![0-9])([0-9]{3})[0-9]{4}([0-9]{4})(?![0-9])")
_ROW = re.compile(r"Failing row contains \(.*\)")


class LineFormatter(logging.Formatter):
    """Formats lines whose format may name `%(request_id)s`; masks phones, and leaves out rows."""

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = request_id.get()
        line = _ROW.sub("Failing row is not shown", super().format(record))
        return _PHONE.sub(r"\1****\2", line)
