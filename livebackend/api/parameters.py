"""Base classes of operation parameters: parsing, validation, description."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError

from livebackend.api import examples
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidParameter
from livebackend.api.forms import Form
from livebackend.api.result_codes import ResultCode


@dataclass(frozen=True)
class ErrorCode:
    """The result code of a parameter's errors, instead of the operation's default."""

    result_code: ResultCode


class Reasons:
    """An annotation with error reasons of an invalid parameter, for the documentation.

    The reasons that follow from the JSON Schema, such as `too_long`, need no annotation.
    """

    def __init__(self, *reasons: ErrorReason) -> None:
        self.reasons = reasons

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        return {**schema, _REASONS: [*schema.get(_REASONS, []), *self.reasons]}


@dataclass(frozen=True)
class Parameter:
    """The name and JSON Schema of a parameter, for the documentation."""

    name: str
    required: bool
    # The result code and the reasons of the parameter's errors. Without a code, the errors have the
    # operation's default error code.
    error_code: ResultCode | None
    reasons: tuple[ErrorReason, ...]
    # JSON Schema with an English (`description`) and a Chinese (`x-zh`) description. For a phone
    # number it has `"format": "phone"`, and for a phone number or public id `"format": "user-id"`,
    # but no pattern, because the pattern of phone numbers is a setting.
    schema: Mapping[str, Any]


class Parameters(BaseModel):
    """The parameters of an operation.

    Unknown parameters are ignored, and empty ones count as absent.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def parse(cls, form: Form, *, phone_pattern: str) -> Self:
        """Parse a form; `phone_pattern` is the pattern of a phone number.

        Raises InvalidParameter for the first invalid parameter, with its ErrorCode.
        """
        values = {name: form[name] for name in cls.model_fields if form.get(name, "") != ""}
        try:
            return cls.model_validate(values, context={"phone_pattern": phone_pattern})
        except ValidationError as error:
            first_error = error.errors(include_url=False, include_input=False)[0]
        name = str(first_error["loc"][0])
        reason = _REASONS_BY_TYPE.get(first_error["type"], ErrorReason.INVALID_VALUE)
        context = {
            _LIMIT_NAMES.get(key, key): value for key, value in first_error.get("ctx", {}).items()
        }
        limits = {limit: context[limit] for limit in reason.limits}
        raise InvalidParameter(cls._error_code(name), name, reason, **limits)

    @classmethod
    @cache
    def describe(cls) -> Sequence[Parameter]:
        """Return the parameters in the order of their declaration."""
        schema = cls.model_json_schema()
        required = schema.get("required", [])
        return tuple(
            _parameter(
                name,
                cls._error_code(name),
                _without_null(property_schema),
                required=name in required,
            )
            for name, property_schema in schema["properties"].items()
        )

    @classmethod
    def _error_code(cls, name: str) -> ResultCode | None:
        for annotation in cls.model_fields[name].metadata:
            if isinstance(annotation, ErrorCode):
                return annotation.result_code
        return None


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema without the type null, because a form cannot contain null."""
    non_null_schema: dict[str, Any] = {}
    for alternative in schema.get("anyOf", ()):
        if alternative.get("type") != "null":
            non_null_schema = alternative
    merged = {**non_null_schema, **schema}
    merged[_REASONS] = [*non_null_schema.get(_REASONS, []), *schema.get(_REASONS, [])]
    return {key: merged[key] for key in merged if key not in ("anyOf", "default", "title")}


def _parameter(
    name: str, error_code: ResultCode | None, schema: dict[str, Any], *, required: bool
) -> Parameter:
    reasons = schema.pop(_REASONS, [])
    if "maxLength" in schema:
        reasons = [ErrorReason.TOO_LONG, *reasons]
    # An empty parameter is absent, so one character at least is never too few.
    if schema.get("minLength", 1) > 1:
        reasons = [ErrorReason.TOO_SHORT, *reasons]
    if required:
        reasons = [ErrorReason.MISSING, *reasons]
    return Parameter(name, required, error_code, tuple(dict.fromkeys(reasons)), schema)


class AuthenticatedParameters(Parameters):
    """Parameters with a login token, which is checked before the other parameters."""

    token: Annotated[
        str,
        Field(
            description="login token, the value of `message` in the login response",
            examples=[examples.LOGIN_TOKEN],
            json_schema_extra={
                "x-zh": "登录凭证，即登录接口返回的 message",
                "x-login-token": True,
            },
        ),
    ]


def invalid(reason: ErrorReason, **limits: int) -> PydanticCustomError:
    """Return the exception that a validator raises for an invalid value."""
    return PydanticCustomError(reason.value, "invalid value", {**limits})


# The JSON Schema keyword in which the annotation Reasons stores the reasons.
_REASONS = "x-error-reasons"
# Error reasons by pydantic error type. The errors that invalid() creates have the error reason as
# their type.
_REASONS_BY_TYPE = {reason.value: reason for reason in ErrorReason} | {
    "missing": ErrorReason.MISSING,
    "dataclass_type": ErrorReason.NOT_A_FILE,
    "string_too_short": ErrorReason.TOO_SHORT,
    "string_too_long": ErrorReason.TOO_LONG,
    "string_type": ErrorReason.INVALID_VALUE,
}
# Limits have one name in pydantic errors (key) and another in error reasons (value).
_LIMIT_NAMES = {"min_length": "min", "max_length": "max"}
