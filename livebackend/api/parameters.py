"""Parameters of operations: how a form is read into them, and what is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from livebackend.api.error_reasons import Reason
from livebackend.api.errors import Failure
from livebackend.api.forms import Form, Upload
from livebackend.api.result_codes import Result


@dataclass(frozen=True)
class Refuses:
    """Marks a parameter whose faults have a code of their own instead of the refusal code."""

    result: Result


@dataclass(frozen=True)
class Says:
    """What a parameter is, for whoever reads the API: in two languages, with an example."""

    english: str
    chinese: str
    example: str = ""


@dataclass(frozen=True, slots=True)
class Rule(AfterValidator):
    """A check of a parameter, and the same check in the words of JSON Schema."""

    schema: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Reading(BeforeValidator):
    """How a parameter's text is read, and in the words of JSON Schema what it may be."""

    schema: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Hint:
    """What is true of a parameter, in the words of JSON Schema, and checked elsewhere or never."""

    schema: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Parameter:
    """A parameter as its reader meets it."""

    name: str
    required: bool
    says: Says
    # In JSON Schema; a phone number has `"format": "phone"`, for the pattern is a setting.
    schema: Mapping[str, Any]


class Params(BaseModel):
    """An operation's parameters. Unknown ones are ignored; an empty optional one is absent."""

    model_config = ConfigDict(extra="ignore", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def read(cls, form: Form, *, phones: str) -> Self:
        """The parameters in `form`; `phones` is the regular expression of a phone number.

        Raises Failure for the first wrong parameter, with its own code if it has one.
        """
        given = {name: form[name] for name in cls.model_fields if form.get(name, "") != ""}
        try:
            return cls.model_validate(given, context={"phones": phones})
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(first["loc"][0])
        raise Failure(cls._result_of(name), name, _REASONS.get(first["type"], Reason.NOT_A_VALUE))

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """The parameters in the order of their declaration."""
        found = []
        for name, declared in cls.model_fields.items():
            says, schema = Says("", ""), {"type": "string"}
            if declared.annotation is Upload:
                schema["contentMediaType"] = "application/octet-stream"
            # What is said last is said for this very parameter.
            for mark in _marks(declared.metadata, declared.annotation):
                if isinstance(mark, Says):
                    says = mark
                elif isinstance(mark, Rule | Reading | Hint):
                    schema |= mark.schema
            found.append(Parameter(name, declared.is_required(), says, schema))
        return found

    @classmethod
    def _result_of(cls, name: str) -> Result | None:
        for mark in cls.model_fields[name].metadata:
            if isinstance(mark, Refuses):
                return mark.result
        return None


def _marks(metadata: Sequence[Any], annotation: Any) -> list[Any]:
    """What stands beside a type: within `Kind | None` first, then around it."""
    inner = [mark for kind in get_args(annotation) for mark in getattr(kind, "__metadata__", ())]
    return [*inner, *metadata]


class LoggedIn(Params):
    """The parameters of a call by somebody who is logged in; the token is judged before them."""

    token: Annotated[
        str,
        Hint({"x-login-token": True}),
        Says("login token: the message of log in", "登录凭证，即登录返回的 message"),
    ]


def broken(reason: Reason) -> PydanticCustomError:
    """What a check raises; it comes out as the call's refusal."""
    return PydanticCustomError(reason.name, "{reason}", {"reason": reason.value})


_REASONS = {reason.name: reason for reason in Reason} | {
    "missing": Reason.MISSING,
    "is_instance_of": Reason.NOT_A_FILE,
}
