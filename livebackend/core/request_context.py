"""The id of the current request."""

from contextvars import ContextVar

# The request id is "-" outside of a request.
request_id: ContextVar[str] = ContextVar("request_id", default="-")
