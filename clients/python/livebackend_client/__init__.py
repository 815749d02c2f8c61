"""Python client of the livebackend API: `Client`, and `AsyncClient` for asyncio."""

from livebackend_client.async_client import AsyncClient
from livebackend_client.client import Client
from livebackend_client.error_reasons import ErrorReason
from livebackend_client.errors import (
    ApiError,
    ConnectionFailed,
    InvalidResponse,
    OperationRefused,
    ServerUnavailable,
)
from livebackend_client.protocol import File
from livebackend_client.result_exceptions import (
    AlreadyFriends,
    BadRequest,
    CoinsNotUpdated,
    InvalidRequest,
    OtherError,
    PhoneTaken,
    TokenExpired,
    TokenInvalid,
    TooManyAttempts,
    UnknownError,
    UnknownUser,
    WrongCode,
    WrongPassword,
)

__all__ = [
    "AlreadyFriends",
    "ApiError",
    "AsyncClient",
    "BadRequest",
    "Client",
    "CoinsNotUpdated",
    "ConnectionFailed",
    "ErrorReason",
    "File",
    "InvalidRequest",
    "InvalidResponse",
    "OperationRefused",
    "OtherError",
    "PhoneTaken",
    "ServerUnavailable",
    "TokenExpired",
    "TokenInvalid",
    "TooManyAttempts",
    "UnknownError",
    "UnknownUser",
    "WrongCode",
    "WrongPassword",
]
