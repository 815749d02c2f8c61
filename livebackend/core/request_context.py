"""The id of the request that is being served."""

from contextvars import ContextVar

# "-" outside of any request.
request_id: ContextVar[str] = ContextVar("request_id", default="-")
