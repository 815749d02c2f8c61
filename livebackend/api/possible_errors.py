"""The error responses that an operation can have, for the documentation."""

from collections.abc import Iterator, Mapping, Sequence

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.error_table import reason_of, result_code_of
from livebackend.api.operation_declaration import Operation
from livebackend.api.result_codes import ResultCode
from livebackend.core.errors import RateLimited, TokenExpired, TokenInvalid, TokenMissing


def possible_errors(operation: Operation) -> Mapping[ResultCode, Sequence[ErrorReason]]:
    """Return the error reasons by result code, in the order of the codes.

    Invalid requests (0003), which no operation processes, are not included.
    """
    reasons_by_code: dict[ResultCode, list[ErrorReason]] = {}
    for code, reason in _pairs(operation):
        reasons = reasons_by_code.setdefault(code, [])
        if reason not in reasons:
            reasons.append(reason)
    return {code: reasons_by_code[code] for code in ResultCode if code in reasons_by_code}


def _pairs(operation: Operation) -> Iterator[tuple[ResultCode, ErrorReason]]:
    login_errors = (TokenMissing, TokenInvalid, TokenExpired) if operation.requires_login else ()
    for parameter in operation.parameters.describe():
        if not (operation.requires_login and parameter.name == "token"):
            for reason in parameter.reasons:
                yield parameter.error_code or operation.default_error, reason
    has_limit = operation.rate_limits or operation.unknown_user_limit
    for error in (*login_errors, *operation.errors, *((RateLimited,) if has_limit else ())):
        yield result_code_of(error, operation), reason_of(error)
    for reason in (ErrorReason.SERVICE_UNAVAILABLE, ErrorReason.INTERNAL_ERROR):
        yield operation.default_error, reason
