"""Parameters of operations: how a form is read into them, and what is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import Failure
from livebackend.api.forms import Form
from livebackend.api.result_codes import Result


@dataclass(frozen=True)
class ErrorCode:
    """Marks a parameter with a result code of its own, instead of the operation's default one."""

    result: Result


@dataclass(frozen=True)
class Parameter:
    """A parameter as its reader meets it."""

    name: str
    required: bool
    # In JSON Schema, with `description` and `x-zh`. A phone number has `"format": "phone"` and no
    # pattern, which is a setting.
    schema: Mapping[str, Any]


class Params(BaseModel):
    """An operation's parameters. Unknown ones are ignored; an empty optional one is absent."""

    model_config = ConfigDict(extra="ignore", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def read(cls, form: Form, *, phones: str) -> Self:
        """Return the parameters in `form`; `phones` is the regular expression of a phone number.

        Raises Failure for the first wrong parameter, with its own code if it has one.
        """
        given = {name: form[name] for name in cls.model_fields if form.get(name, "") != ""}
        try:
            return cls.model_validate(given, context={"phones": phones})
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(first["loc"][0])
        raise Failure(cls._error_code(name), name, _REASONS.get(first["type"], Reason.NOT_A_VALUE))

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """Return the parameters in the order of their declaration."""
        schema = cls.model_json_schema()
        required = schema.get("required", [])
        return [
            Parameter(name, name in required, _without_null(described))
            for name, described in schema["properties"].items()
        ]

    @classmethod
    def _error_code(cls, name: str) -> Result | None:
        for mark in cls.model_fields[name].metadata:
            if isinstance(mark, ErrorCode):
                return mark.result
        return None


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without null: a form has none, an absent parameter is left out."""
    given: dict[str, Any] = {}
    for kind in schema.get("anyOf", ()):
        if kind.get("type") != "null":
            given = kind
    merged = {**given, **schema}
    return {key: merged[key] for key in merged if key not in ("anyOf", "default", "title")}


def described(english: str, chinese: str, example: str | int | None = None) -> Any:
    """Describe a parameter in two languages, with an example."""
    examples = None if example is None else [example]
    return Field(description=english, examples=examples, json_schema_extra={"x-zh": chinese})


class LoggedIn(Params):
    """The parameters of a user who is logged in; the token is checked before all others."""

    token: Annotated[
        str,
        Field(
            description="login token: the message of log in",
            json_schema_extra={
                "x-zh": "登录凭证，即登录返回的 message",
                "x-login-token": True,
            },
        ),
    ]


def broken(reason: Reason) -> PydanticCustomError:
    """Return the error that a validator raises for a value with this fault."""
    return PydanticCustomError(reason.name, "{reason}", {"reason": reason.value})


_REASONS = {reason.name: reason for reason in Reason} | {
    "missing": Reason.MISSING,
    "is_instance_of": Reason.NOT_A_FILE,
    "string_too_short": Reason.TOO_SHORT,
    "string_too_long": Reason.TOO_LONG,
    "string_type": Reason.NOT_A_VALUE,
}
