"""Every setting: its name, its default (the safe one), and what it does."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from limits import parse_many
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)

from livebackend.config.deprecated_names import current_class
from livebackend.config.errors import SettingsError

ENVIRONMENT = "LIVEBACKEND_"

_SECRET_LENGTH_MIN = 32
# What every secret in a file that everybody can read begins with.
_KNOWN = "for-development-only"
# Classes of gateways that are not for production; the second prefix is deprecated.
_STAND_INS = ("Development", "Embedded")
# A room is opening for half of it, at most.
_SWEEP_S_MIN = 10
# Settings of Pyramid's own may stand in the same section.
_FOREIGN = ("pyramid.",)
# Names that Pyramid's own templates use.
_ALIASES = {"sqlalchemy.url": "database.url"}


def _secret(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if len(value) < _SECRET_LENGTH_MIN:
        raise ValueError(f"must have {_SECRET_LENGTH_MIN} characters at least")
    if value.get_secret_value().startswith(_KNOWN):
        _only_if_meant("secrets_known_is_meant", info, "is known to everybody")
    return value


def _secrets(value: object) -> tuple[str, ...]:
    words = tuple(str(value).split())
    if not words:
        raise ValueError("is missing")
    return words


def _only_if_meant(name: str, info: ValidationInfo, what: str) -> None:
    """Refuses what is dangerous on the open internet, unless a setting says that it is meant."""
    if not info.data.get(name):
        raise ValueError(f"{what}; set {_dotted(name)} = true if that is meant")


def _plain_if_meant(value: str, info: ValidationInfo) -> str:
    if value == "plain":
        _only_if_meant("codes_plain_is_meant", info, "gives every code away")
    return value


def _direct_if_meant(value: str, info: ValidationInfo) -> str:
    if value == "direct":
        _only_if_meant("coins_direct_refill_is_meant", info, "gives coins away")
    return value


def _shared_secret(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if not re.fullmatch("[A-Za-z0-9_-]{0,200}", value.get_secret_value()):
        raise ValueError("must have letters, digits, _ and - alone, 200 at most")
    return _secret(value, info) if value else value


def _gateway(value: str, info: ValidationInfo) -> str:
    if value.rpartition(".")[2].startswith(_STAND_INS):
        _only_if_meant("gateways_embedded_is_meant", info, "is a stand-in")
    return value


def _gateways(value: str, info: ValidationInfo) -> str:
    return " ".join(_gateway(current_class(name), info) for name in value.split())


def _order_with_gateway(value: str, info: ValidationInfo) -> str:
    if info.data.get("coins_refill") == "order" and not value.split():
        raise ValueError("is empty; coins.refill = order needs a payment gateway")
    return value


def _sweep(value: int) -> int:
    if value and value < _SWEEP_S_MIN:
        raise ValueError(f"must be 0, or {_SWEEP_S_MIN} at least")
    return value


def _limit(value: str) -> str:
    try:
        parse_many(value) if value else None
    except ValueError:
        raise ValueError('is no limit, as "10 per minute; 100 per hour" is one') from None
    return value


def _networks(value: str) -> str:
    for network in value.split():
        ip_network(network)
    return value


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return value


def _dotted(name: str) -> str:
    return name.replace("_", ".", 1)


Secret = Annotated[SecretStr, AfterValidator(_secret)]
Limit = Annotated[str, AfterValidator(_limit)]
Gateway = Annotated[str, AfterValidator(current_class), AfterValidator(_gateway)]
# A name, and perhaps a port; it stands in URLs as it is.
Host = Annotated[str, Field(pattern=r"^([A-Za-z0-9.-]{1,200}(:[0-9]{1,5})?)?$")]


class Settings(BaseModel):
    """The settings of an application.

    `codes_reply` here is `codes.reply` in the ini file and LIVEBACKEND_CODES_REPLY in the
    environment, which wins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_dotted)

    database_url: SecretStr = Field(
        description="`postgresql://…`, or `embedded`: a PostgreSQL of its own in var.dir"
    )
    database_migrate: bool = Field(False, description="bring the tables up to date at start")
    database_connections: int = Field(
        10, ge=1, le=100, description="connections a server process holds at most"
    )
    var_dir: Path = Field(description="where pictures and the embedded PostgreSQL are kept")
    server_workers: int = Field(
        0, ge=0, le=64, description="processes that answer calls; 0: one for each core"
    )
    server_threads: int = Field(
        64, ge=4, le=256, description="calls that a worker answers at a time"
    )
    server_connections: int = Field(512, ge=16, description="connections that a worker holds")
    server_backlog: int = Field(
        1024, ge=128, description="connections that wait until a worker takes them"
    )
    server_header_bytes_max: int = Field(
        16_384, ge=8192, description="the size of a request without its body"
    )
    server_header_wait_s: int = Field(
        30, ge=1, le=60, description="how long a connection may say nothing, or half a request"
    )
    server_stop_wait_s: int = Field(
        10, ge=1, le=60, description="how long a stop waits for calls in flight"
    )
    # What is meant stands before what needs it: a field is judged by the fields above it.
    secrets_known_is_meant: bool = Field(
        False, description="take secrets that everybody knows, for development only"
    )
    codes_plain_is_meant: bool = Field(False, description="allow `codes.reply = plain`")
    gateways_embedded_is_meant: bool = Field(
        False, description="allow gateways that send nothing and stream nothing"
    )
    coins_direct_refill_is_meant: bool = Field(False, description="allow `coins.refill = direct`")
    secrets: Annotated[tuple[Secret, ...], BeforeValidator(_secrets)] = Field(
        description="what tokens and codes are signed with: the first signs, all verify",
    )
    passwords_pepper: Secret = Field(
        description="goes into every password's hash; a lost one ends all passwords"
    )
    passwords_cost: int = Field(12, ge=4, le=16, description="bcrypt's; one more: twice the time")
    passwords_at_once: int = Field(
        0, ge=0, description="hashes at a time on this machine; 0: one for each core but one"
    )
    passwords_wait_s: float = Field(
        50.0, gt=0, le=60, description="how long a call waits for its turn to hash"
    )
    passwords_common_refused: bool = Field(
        True, description="refuse what everybody tries first, and what holds one's phone"
    )
    phones_pattern: Annotated[str, AfterValidator(_regular_expression)] = Field(
        "1[0-9]{10}", description="which eleven digits are a phone number, as a regular expression"
    )
    http_url: str = Field(
        "http://127.0.0.1:6543",
        pattern="^https?://[^/?#]+(/[^?#]*)?$",
        description="where users reach this server; if missing, by the ini's host and port",
    )
    http_trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "", description="networks of proxies of one's own; HTTPS is required behind them"
    )
    http_query_parameters: bool = Field(
        False, description="take parameters from the query string too"
    )
    http_body_bytes_max: int = Field(65_536, ge=1024, description="a body's size")
    http_upload_bytes_max: int = Field(6_291_456, ge=1024, description="a body's size at /upload")
    http_fields_max: int = Field(100, ge=10, description="parameters in one call")
    # Not hidden by default: they tell what every copy of the app gives away, ask for nothing but
    # the documented calls, and are bytes that were made at start.
    docs_enabled: bool = Field(True, description="serve `/docs` and `/openapi.json`")
    # Hidden by default: a page where strangers are led to register is the operator's to offer.
    demo_enabled: bool = Field(False, description="serve `/demo`, a web page that plays the app")
    codes_reply: Annotated[Literal["ticket", "plain"], AfterValidator(_plain_if_meant)] = Field(
        "ticket", description="`ticket`: an opaque one; `plain`: the code itself, for development"
    )
    codes_ttl_s: int = Field(300, ge=30, le=3600, description="how long a code lives")
    register_verified_phone: Literal["required", "optional"] = Field(
        "required", description="whether a registration needs a phone verified before"
    )
    pictures_keep: Literal["re_encoded", "as_sent"] = Field(
        "re_encoded", description="`re_encoded`: checked and made anew; `as_sent`: kept on disk"
    )
    pictures_only_ours: bool = Field(
        True, description="take only an avatar that was uploaded here and is nobody's"
    )
    pictures_bytes_max: int = Field(5_242_880, ge=1, description="a picture's size")
    pictures_unclaimed_s: int = Field(
        86_400, ge=900, description="how long a picture is kept that is nobody's avatar"
    )
    pictures_free_bytes_min: int = Field(
        500_000_000, ge=0, description="room on the disk that uploads leave free"
    )
    friends_max: int = Field(5000, ge=1, description="friends, or blocked ones, of one account")
    messages_max: int = Field(500, ge=1, description="messages in a list")
    coins_refill: Annotated[
        Literal["direct", "order", "disabled"], AfterValidator(_direct_if_meant)
    ] = Field(
        "disabled",
        description="`order`: coins come with the payment; `direct`: at once, unpaid",
    )
    coins_per_yuan: int = Field(1, ge=1, le=10_000, description="coins that one yuan buys")
    ledger_writer: int = Field(
        -1,
        ge=-1,
        # models.CREDIT_SLOTS - 1, which this package cannot import.
        le=15,
        description="a server process's own number, 0 to 15, which spares it waits; -1: any",
    )
    limits_connections: int = Field(
        2, ge=1, le=20, description="connections for counting, besides `database.connections`"
    )
    limits_codes_phone: Limit = Field(
        "1 per 60 seconds; 5 per day", description="codes for one phone"
    )
    limits_codes_address: Limit = Field("20 per hour", description="codes asked for by one address")
    limits_codes_all: Limit = Field("2000 per day", description="codes that are sent in all")
    limits_login_account: Limit = Field(
        "10 per 5 minutes; 30 per hour; 100 per day",
        description="wrong passwords for one account from one address",
    )
    limits_login_address: Limit = Field(
        "100 per hour; 500 per day", description="wrong passwords from one address"
    )
    limits_reset: Limit = Field("20 per hour", description="passwords reset from one address")
    limits_upload: Limit = Field("10 per hour", description="pictures from one address")
    limits_search: Limit = Field("100 per hour", description="searches by one account")
    limits_add: Limit = Field("60 per hour", description="requests by one account")
    limits_refill: Limit = Field("30 per hour", description="refills of one account")
    limits_refill_retries: Limit = Field(
        "120 per hour", description="retries of refills, by `requestId`, of one account"
    )
    metrics_listen: str = Field(
        "127.0.0.1:6544",
        pattern=r"^([^\s:]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5})?$",
        description="where Prometheus reads `/metrics`, for no stranger's eyes; empty: nowhere",
    )
    sms_gateway: Gateway = Field(
        "livebackend.gateways.sms.qiniu.QiniuSms",
        description="dotted name of the class that sends messages",
    )
    sms_template: str = Field("", description="Qiniu's id of the text with the code in it")
    sms_url: str = Field("https://sms.qiniuapi.com", description="where Qiniu takes messages")
    qiniu_access_key: str = Field("", description="Qiniu's name for one's account")
    qiniu_secret_key: SecretStr = Field(
        SecretStr(""), description="what calls of Qiniu are signed with"
    )
    payments_gateway: Annotated[
        str, AfterValidator(_gateways), AfterValidator(_order_with_gateway)
    ] = Field(
        "",
        validate_default=True,
        description="dotted names of payment gateways; the first opens orders, all settle payments",
    )
    payments_order_ttl_s: int = Field(
        7200, ge=600, le=604_800, description="seconds until an unpaid order is closed"
    )
    wechat_app_id: str = Field("", description="WeChat's id of the app")
    wechat_merchant: str = Field("", description="WeChat's id of who is paid")
    wechat_serial: str = Field("", description="serial number of the merchant's certificate")
    wechat_key_file: str = Field("", description="file with the merchant's private key, PEM")
    wechat_api_key: SecretStr = Field(SecretStr(""), description="the merchant's APIv3 key")
    wechat_public_key_file: str = Field(
        "", description="file with WeChat's public key, PEM; none: its certificates are fetched"
    )
    wechat_public_key_id: str = Field("", description="the id of WeChat's public key")
    streams_gateway: Gateway = Field(description="dotted name of the class that makes streams")
    streams_hub: Annotated[str, Field(pattern="^[A-Za-z0-9-]{1,50}$")] = Field(
        "livebackend", description="the name that streams are grouped under"
    )
    streams_url: str = Field("https://pili.qiniuapi.com", description="where Qiniu takes calls")
    streams_publish_security: Literal["none", "static", "expiry", "expiry_sk", "dynamic"] = Field(
        "static", description="how the hub knows a publisher: see Streams"
    )
    streams_publish_url_s: int = Field(
        3600, ge=60, le=86_400, description="how long a signed publish URL is good for a start"
    )
    streams_publish_host: Host = Field("", description="where broadcasters publish, by RTMP")
    streams_rtmp_host: Host = Field("", description="where streams are watched by RTMP")
    streams_hls_host: Host = Field("", description="where streams are watched by HLS")
    streams_hdl_host: Host = Field("", description="where streams are watched as FLV over HTTP")
    streams_snapshot_host: Host = Field("", description="where pictures of streams are")
    streams_playback_host: Host = Field("", description="where past streams are watched")
    streams_control_url: str = Field(
        "http://127.0.0.1:8081", description="where one's own media server takes orders"
    )
    streams_hook_secret: Annotated[SecretStr, AfterValidator(_shared_secret)] = Field(
        SecretStr(""), description="what one's own media server proves itself with"
    )
    streams_absent_s: int = Field(
        60, ge=5, le=3600, description="how long a room is open without a stream"
    )
    streams_sweep_s: Annotated[int, AfterValidator(_sweep)] = Field(
        10,
        le=3600,
        description="period of housekeeping: rooms, pictures, orders; 0: `livebackend sweep` alone",
    )

    @classmethod
    def load(cls, ini: Mapping[str, Any], environment: Mapping[str, str]) -> Self:
        """The settings of an ini section, overridden by the environment.

        Raises SettingsError, which names every missing, unknown and faulty setting.
        """
        try:
            return cls.model_validate(cls.given(ini, environment))
        except ValidationError as error:
            raise SettingsError(*_faults(error)) from None

    @classmethod
    def given(cls, ini: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
        """What is set, as it is written, by the names in an ini file.

        Raises SettingsError for a setting that is given by its name and by an alias.
        """
        twice = [alias for alias, name in _ALIASES.items() if {alias, name} <= ini.keys()]
        if twice:
            raise SettingsError(*(f"{alias}: {_ALIASES[alias]} is set too" for alias in twice))
        given = {
            _ALIASES.get(name, name): value
            for name, value in ini.items()
            if not name.startswith(_FOREIGN)
        }
        names = {variable(name): name for name in cls.names()}
        for key, value in environment.items():
            if key.startswith(ENVIRONMENT):
                given[names.get(key, key)] = value
        return given

    def require(self, *names: str) -> None:
        """Raises ValueError, which names those of the settings that are empty."""
        missing = [name for name in names if not getattr(self, name.replace(".", "_", 1))]
        if missing:
            raise ValueError(f"it needs {', '.join(missing)}")

    @property
    def signing_secrets(self) -> list[str]:
        """What tokens and codes are signed with, in plain text: the first signs, all verify."""
        return [secret.get_secret_value() for secret in self.secrets]

    @property
    def trusted_proxies(self) -> list[IPv4Network | IPv6Network]:
        return [ip_network(network) for network in self.http_trusted_proxies.split()]

    @property
    def limits(self) -> dict[str, str]:
        """Every limit by the last part of its name."""
        return {
            name.removeprefix("limits_"): value
            for name, value in self
            if name.startswith("limits_") and isinstance(value, str)
        }

    @classmethod
    def names(cls) -> dict[str, Any]:
        """Every setting's name as it stands in an ini file, with its field."""
        return {_dotted(name): field for name, field in cls.model_fields.items()}


def with_own_address(ini: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """An ini section; if it has no `http.url`, with the host and port of the file's defaults."""
    if {"host", "port"} <= defaults.keys():
        return {"http.url": f"http://{defaults['host']}:{defaults['port']}", **ini}
    return dict(ini)


def variable(name: str) -> str:
    """The environment variable that overrides a setting."""
    return ENVIRONMENT + name.upper().replace(".", "_")


def _faults(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        name = str(fault["loc"][0])
        says = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(fault["type"])
        lines.append(f"{name}: {says or fault['msg'].removeprefix('Value error, ')}")
    return lines
