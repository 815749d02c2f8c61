"""Base classes of operation parameters: parsing, validation, description."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidParameter
from livebackend.api.forms import Form
from livebackend.api.result_codes import ResultCode


@dataclass(frozen=True)
class ErrorCode:
    """The result code of a parameter's errors, instead of the operation's default."""

    result_code: ResultCode


@dataclass(frozen=True)
class Parameter:
    """The name and JSON Schema of a parameter, for the documentation."""

    name: str
    required: bool
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
    def describe(cls) -> list[Parameter]:
        """Return the parameters in the order of their declaration."""
        schema = cls.model_json_schema()
        required = schema.get("required", [])
        return [
            Parameter(name, name in required, _without_null(property_schema))
            for name, property_schema in schema["properties"].items()
        ]

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
    return {key: merged[key] for key in merged if key not in ("anyOf", "default", "title")}


def documented_field(english: str, chinese: str, example: str | int | None = None) -> Any:
    """Return a field with a description in English and Chinese and an example."""
    examples = None if example is None else [example]
    return Field(description=english, examples=examples, json_schema_extra={"x-zh": chinese})


class AuthenticatedParameters(Parameters):
    """Parameters with a login token, which is checked before the other parameters."""

    token: Annotated[
        str,
        Field(
            description="login token, the value of `message` in the login response",
            json_schema_extra={
                "x-zh": "登录凭证，即登录接口返回的 message",
                "x-login-token": True,
            },
        ),
    ]


def invalid(reason: ErrorReason, **limits: int) -> PydanticCustomError:
    """Return the exception that a validator raises for an invalid value."""
    return PydanticCustomError(reason.value, "invalid value", {**limits})


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
