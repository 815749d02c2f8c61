"""Every setting: its name, its default (the safe one), and what it does."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

ENVIRONMENT = "LIVEBACKEND_"

_SECRET_LENGTH_MIN = 32
# Settings of Pyramid's own may stand in the same section.
_FOREIGN = ("pyramid.",)


class SettingsError(ValueError):
    """The settings are faulty: all faults at once, a line each."""


def _secret(value: str) -> str:
    if len(value) < _SECRET_LENGTH_MIN:
        raise ValueError(f"must have {_SECRET_LENGTH_MIN} characters at least")
    return value


def _secrets(value: object) -> tuple[str, ...]:
    words = tuple(str(value).split())
    if not words:
        raise ValueError("is missing")
    return tuple(map(_secret, words))


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return value


def _dotted(name: str) -> str:
    return name.replace("_", ".", 1)


Secret = Annotated[str, AfterValidator(_secret)]


class Settings(BaseModel):
    """The settings of an application.

    `codes_reply` here is `codes.reply` in the ini file and LIVEBACKEND_CODES_REPLY in the
    environment, which wins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_dotted)

    database_url: str = Field(
        description="`postgresql+psycopg2://…`, or `embedded`: a PostgreSQL of its own in var.dir"
    )
    database_migrate: bool = Field(False, description="bring the tables up to date at start")
    database_connections: int = Field(
        10, ge=1, le=100, description="connections a server process holds at most"
    )
    var_dir: Path = Field(description="where pictures and the embedded PostgreSQL are kept")
    secrets: Annotated[tuple[str, ...], BeforeValidator(_secrets)] = Field(
        description="what tokens and codes are signed with: the first signs, all verify",
    )
    passwords_pepper: Secret = Field(
        description="goes into every password's hash; a lost one ends all passwords"
    )
    passwords_cost: int = Field(12, ge=4, le=16, description="bcrypt's; one more: twice the time")
    passwords_at_once: int = Field(
        0, ge=0, description="hashes at a time; 0: one for each core but one"
    )
    passwords_wait_s: float = Field(
        2.0, gt=0, le=3, description="how long a call waits for its turn to hash"
    )
    phones_pattern: Annotated[str, AfterValidator(_regular_expression)] = Field(
        "1[0-9]{10}", description="what a phone number is, as a regular expression"
    )
    http_query_parameters: bool = Field(
        False, description="take parameters from the query string too"
    )
    http_body_bytes_max: int = Field(65_536, ge=1024, description="a body's size")
    http_upload_bytes_max: int = Field(6_291_456, ge=1024, description="a body's size at /upload")
    http_fields_max: int = Field(100, ge=10, description="parameters in one call")
    codes_reply: Literal["plain"] = Field(
        description="`plain`: the code stands in the reply, for development only"
    )
    codes_ttl_s: int = Field(300, ge=30, le=3600, description="how long a code lives")
    register_verified_phone: Literal["required", "optional"] = Field(
        "required", description="whether a registration needs a phone verified before"
    )
    pictures_keep: Literal["as_sent"] = Field(
        description="`as_sent`: bytes and name are kept, the reply is the path on disk"
    )
    pictures_only_ours: bool = Field(
        True, description="take only an avatar that was uploaded here and is nobody's"
    )
    pictures_bytes_max: int = Field(5_242_880, ge=1, description="a picture's size")
    friends_max: int = Field(5000, ge=1, description="friends of one account")
    messages_max: int = Field(500, ge=1, description="messages in a list")
    coins_refill: Literal["direct", "disabled"] = Field(
        "disabled", description="`direct`: coins are credited at once, unpaid"
    )
    coins_per_yuan: int = Field(1, ge=1, le=10_000, description="coins that one yuan buys")
    sms_gateway: str = Field(description="dotted name of the class that sends messages")
    streams_gateway: str = Field(description="dotted name of the class that makes streams")
    streams_hub: Annotated[str, Field(pattern="^[A-Za-z0-9-]{1,50}$")] = Field(
        "livebackend", description="the name that streams are grouped under"
    )

    @classmethod
    def load(cls, ini: Mapping[str, Any], environment: Mapping[str, str]) -> Self:
        """The settings of an ini section, overridden by the environment.

        Raises SettingsError, which names every missing, unknown and faulty setting.
        """
        given = {name: value for name, value in ini.items() if not name.startswith(_FOREIGN)}
        names = {variable(name): name for name in cls.names()}
        for key, value in environment.items():
            if key.startswith(ENVIRONMENT):
                given[names.get(key, key)] = value
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise SettingsError(_faults(error)) from None

    @classmethod
    def names(cls) -> dict[str, Any]:
        """Every setting's name as it stands in an ini file, with its field."""
        return {_dotted(name): field for name, field in cls.model_fields.items()}


def variable(name: str) -> str:
    """The environment variable that overrides a setting."""
    return ENVIRONMENT + name.upper().replace(".", "_")


def _faults(error: ValidationError) -> str:
    lines = ["the settings are faulty:"]
    for fault in error.errors(include_url=False, include_input=False):
        name = str(fault["loc"][0])
        says = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(fault["type"])
        lines.append(f"  {name}: {says or fault['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
