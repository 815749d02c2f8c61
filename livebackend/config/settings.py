"""Names, defaults and validation of all settings. Each default is the safe value."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

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

from livebackend.config.addresses import (
    check_address,
    check_host,
    check_host_and_port,
    check_http_url,
    check_public_url,
    is_loopback_address,
    parse_port,
)
from livebackend.config.deprecated_names import (
    RENAMED_SETTINGS,
    current_class,
    current_picture_mode,
    warn_of_deprecated_settings,
)
from livebackend.config.errors import SettingsError

ENVIRONMENT_PREFIX = "LIVEBACKEND_"
# Value of `http.trusted_proxies`: requests over a unix socket come from a proxy.
UNIX_SOCKET = "unix"
# Value of `http.allowed_origins`: requests from the pages of all origins are accepted.
ANY_ORIGIN = "*"

_MIN_SECRET_LENGTH = 32
# Prefix of the secrets in development.ini, which are published with the source.
_PUBLISHED_PREFIX = "for-development-only"
# Prefixes of gateway classes that are not for production; the second one is deprecated.
_DEVELOPMENT_CLASS_PREFIXES = ("Development", "Embedded")
# Minimum of `streams.check_interval_s`, the time within which housekeeping closes a stale room. The
# time includes the 5 s for which a room can be `opening`, and the duration of a housekeeping run.
_MIN_CHECK_INTERVAL_S = 10
# `proxy_read_timeout` of the reverse proxy minus `passwords.queue_timeout_s`: the time for the hash
# itself on a busy machine, and for the statements before and after it.
PROXY_READ_TIMEOUT_MARGIN_S = 10
# Prefixes of Pyramid's settings, which are in the same ini section as the settings of livebackend.
_PYRAMID_PREFIXES = ("pyramid.",)
# Aliases of settings: the deprecated names, and `sqlalchemy.url` of Pyramid's project templates.
_NAME_BY_ALIAS = {"sqlalchemy.url": "database.url", **RENAMED_SETTINGS}


def _check_secret(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if len(value) < _MIN_SECRET_LENGTH:
        raise ValueError(f"must have at least {_MIN_SECRET_LENGTH} characters")
    if value.get_secret_value().startswith(_PUBLISHED_PREFIX):
        _require_permission("secrets_allow_insecure", info, "is a published secret")
    return value


def _split_secrets(value: object) -> tuple[str, ...]:
    secrets = tuple(str(value).split())
    if not secrets:
        raise ValueError("is missing")
    return secrets


def _require_permission(permission: str, info: ValidationInfo, problem: str) -> None:
    """Raise ValueError for an unsafe value unless the setting `permission` allows it."""
    if not info.data.get(permission):
        raise ValueError(f"{problem}; set {_setting_name(permission)} = true to allow it")


def _check_codes_reply(value: str, info: ValidationInfo) -> str:
    if value == "plain":
        _require_permission("codes_allow_plain", info, "returns the code to the client")
    return value


def _check_coins_refill(value: str, info: ValidationInfo) -> str:
    if value == "direct":
        _require_permission("coins_allow_free_refill", info, "credits unpaid coins")
    return value


def _check_shared_secret(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if not re.fullmatch("[A-Za-z0-9_-]{0,200}", value.get_secret_value()):
        raise ValueError("can only contain letters, digits, _ and -, at most 200 of them")
    return _check_secret(value, info) if value else value


def _check_events_address(value: str, info: ValidationInfo) -> str:
    if not value:
        raise ValueError("is not an address such as 127.0.0.1:6545")
    if not is_loopback_address(check_address(value)):
        _require_permission("server_allow_direct_clients", info, "can be used by other machines")
    return value


def _check_gateway(value: str, info: ValidationInfo) -> str:
    if not value.strip():
        raise ValueError("is empty; set the dotted name of a gateway class")
    if value.rpartition(".")[2].startswith(_DEVELOPMENT_CLASS_PREFIXES):
        _require_permission("gateways_allow_development", info, "is a development gateway")
    return value


def _check_optional_gateway(value: str, info: ValidationInfo) -> str:
    return _check_gateway(value, info) if value.strip() else ""


def _check_optional_url(value: str) -> str:
    return check_http_url(value) if value else ""


def _check_gateways(value: str, info: ValidationInfo) -> str:
    return " ".join(_check_gateway(current_class(name), info) for name in value.split())


def _check_payments_gateway(value: str, info: ValidationInfo) -> str:
    if info.data.get("coins_refill") == "order" and not value.split():
        raise ValueError("is empty, but coins.refill = order needs a payment gateway")
    return value


def _check_interval(value: int) -> int:
    if value and value < _MIN_CHECK_INTERVAL_S:
        raise ValueError(f"must be 0 or at least {_MIN_CHECK_INTERVAL_S}")
    return value


def _check_rate_limit(value: str) -> str:
    try:
        parse_many(value) if value else None
    except ValueError:
        raise ValueError('is not a rate limit such as "10 per minute; 100 per hour"') from None
    return value


def _check_networks(value: str) -> str:
    for network in value.split():
        if network != UNIX_SOCKET:
            ip_network(network)
    return value


def _check_origins(value: str) -> str:
    for origin in value.split():
        if origin != ANY_ORIGIN and origin_of(origin) != origin:
            raise ValueError(f"{origin} is not an origin such as https://live.example")
    return value


def _check_regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is not a valid regular expression: {error}") from None
    return value


def _setting_name(field_name: str) -> str:
    return field_name.replace("_", ".", 1)


Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
RateLimit = Annotated[str, AfterValidator(_check_rate_limit)]
Gateway = Annotated[str, AfterValidator(current_class), AfterValidator(_check_gateway)]
# A host name with an optional port, inserted into URLs unchanged.
Host = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9.-]{1,200}(:[0-9]{1,5})?)?$"),
    AfterValidator(check_host_and_port),
]
HttpUrl = Annotated[str, AfterValidator(check_http_url)]


class Settings(BaseModel):
    """All settings of a server.

    The field `codes_reply` is `codes.reply` in the ini file. The environment variable
    LIVEBACKEND_CODES_REPLY overrides it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=_setting_name,
        # The values can be secrets, and a validation error can be logged.
        hide_input_in_errors=True,
    )

    database_url: SecretStr = Field(
        description="`postgresql://…`, or `embedded`: a PostgreSQL server of its own in `data.dir`"
    )
    database_migrate: bool = Field(False, description="run pending database migrations at start")
    database_connections: int = Field(
        10, ge=1, le=100, description="maximum database connections of a worker"
    )
    data_dir: Path = Field(description="folder of the pictures and of the embedded PostgreSQL")
    server_workers: int = Field(
        0, ge=0, le=64, description="worker processes; 0: one per available CPU core"
    )
    server_bind_workers: bool = Field(
        default=True,
        description="bind each worker to one CPU, if every CPU has exactly one worker",
    )
    server_threads: int = Field(
        64, ge=4, le=256, description="requests that a worker processes concurrently"
    )
    server_max_connections: int = Field(
        512, ge=16, description="maximum open client connections of a worker"
    )
    server_backlog: int = Field(
        1024, ge=128, description="connections that can wait to be accepted"
    )
    server_max_header_bytes: int = Field(
        16_384, ge=8192, description="maximum bytes of the request line and headers"
    )
    server_header_timeout_s: int = Field(
        30,
        ge=1,
        le=60,
        description="seconds a client has to send the request headers; also the idle timeout",
    )
    server_shutdown_timeout_s: int = Field(
        10,
        ge=1,
        le=60,
        description="seconds that open requests have to finish when the server stops",
    )
    server_allow_direct_clients: bool = Field(
        False,
        description="allow `livebackend serve` on an address that other machines can reach, without"
        " `http.trusted_proxies`, and such an `events.address`; a few slow clients can then block"
        " the server",
    )
    # The `allow_…` settings precede the settings that need them, because a validator sees only the
    # fields above its own field.
    secrets_allow_insecure: bool = Field(
        False, description="allow the published secrets of development.ini; for development only"
    )
    codes_allow_plain: bool = Field(False, description="allow `codes.reply = plain`")
    gateways_allow_development: bool = Field(
        False,
        description="allow gateways for development: no SMS or streams; every order counts as paid",
    )
    coins_allow_free_refill: bool = Field(False, description="allow `coins.refill = direct`")
    secrets: Annotated[tuple[Secret, ...], BeforeValidator(_split_secrets)] = Field(
        description="secrets of tokens and codes, separated by blanks: the first signs, all verify",
    )
    passwords_pepper: Secret = Field(
        description="secret in every password hash; if it is lost, no password works any more"
    )
    passwords_cost: int = Field(
        12, ge=4, le=16, description="bcrypt cost; each step doubles the time of a hash"
    )
    passwords_max_concurrent: int = Field(
        0,
        ge=0,
        description="concurrent password hashes on this machine; 0: available CPU cores minus one",
    )
    # The proxy must wait longer for the response: see PROXY_READ_TIMEOUT_MARGIN_S.
    passwords_queue_timeout_s: float = Field(
        25.0, gt=0, le=60, description="maximum seconds that a request waits to hash a password"
    )
    passwords_reject_common: bool = Field(
        True, description="reject common passwords, and those that contain the user's phone"
    )
    phones_pattern: Annotated[str, AfterValidator(_check_regular_expression)] = Field(
        "1[0-9]{10}",
        description="regular expression that a phone number of eleven digits must match",
    )
    http_public_url: Annotated[str, AfterValidator(check_public_url)] = Field(
        "http://127.0.0.1:6543",
        description="public URL of this server; if missing, from host and port of the ini file",
    )
    http_trusted_proxies: Annotated[str, AfterValidator(_check_networks)] = Field(
        "",
        description="addresses of your proxies, separated by blanks, or `unix` for a unix socket;"
        " if set, clients must use HTTPS",
    )
    http_client_address_header: str = Field(
        "X-Forwarded-For",
        pattern="^[A-Za-z0-9-]{1,50}$",
        description="header in which your proxies send the client address",
    )
    http_allowed_origins: Annotated[str, AfterValidator(_check_origins)] = Field(
        "",
        description="origins of web pages that can send requests, in addition to"
        " `http.public_url`, separated by blanks; `*`: all",
    )
    http_allow_query_parameters: bool = Field(
        False, description="accept parameters in the query string too"
    )
    http_max_body_bytes: int = Field(65_536, ge=1024, description="maximum bytes of a request body")
    http_max_upload_bytes: int = Field(
        6_291_456, ge=1024, description="maximum bytes of a multipart form at /upload"
    )
    http_max_fields: int = Field(100, ge=10, description="maximum parameters of a request")
    # Enabled by default: the pages reveal no more than the app itself, and are rendered once at
    # start.
    docs_enabled: bool = Field(
        True, description="serve `/docs`, the OpenAPI and AsyncAPI documents"
    )
    # Disabled by default, because the demo page invites its visitors to register accounts.
    demo_enabled: bool = Field(
        False, description="serve `/demo`, a web page that works like the app"
    )
    codes_reply: Annotated[Literal["ticket", "plain"], AfterValidator(_check_codes_reply)] = Field(
        "ticket",
        description="response to a code request: `ticket`: signed ticket; `plain`: the code itself",
    )
    codes_ttl_s: int = Field(
        300, ge=30, le=3600, description="seconds until a verification code expires"
    )
    register_verified_phone: Literal["required", "optional"] = Field(
        "required",
        description="`required`: only verified phones can register; `optional`: any phone",
    )
    pictures_mode: Annotated[
        Literal["reencoded", "original"], BeforeValidator(current_picture_mode)
    ] = Field(
        "reencoded",
        description="`reencoded`: check and re-encode pictures; `original`: store them unchanged",
    )
    pictures_require_uploaded: bool = Field(
        True, description="accept as avatar only a picture uploaded here that no other account uses"
    )
    pictures_max_bytes: int = Field(5_242_880, ge=1, description="maximum bytes of a picture")
    pictures_max_cpu_s: float = Field(
        1.0, ge=0.1, le=10, description="maximum seconds of CPU time to decode a picture"
    )
    pictures_max_concurrent: int = Field(
        2, ge=1, le=64, description="pictures that a worker decodes at a time, in other processes"
    )
    pictures_unused_ttl_s: int = Field(
        86_400, ge=900, description="seconds until a picture that is no account's avatar is deleted"
    )
    pictures_min_free_disk_bytes: int = Field(
        500_000_000, ge=0, description="free disk space, in bytes, below which uploads are refused"
    )
    friends_max: int = Field(
        5000, ge=1, description="maximum friends, and maximum blocked users, of an account"
    )
    messages_max: int = Field(500, ge=1, description="maximum friend requests in a list")
    coins_refill: Annotated[
        Literal["direct", "order", "disabled"], AfterValidator(_check_coins_refill)
    ] = Field(
        "disabled",
        description="`order`: paid refills; `direct`: free refills; `disabled`: no refills",
    )
    coins_per_yuan: int = Field(1, ge=1, le=10_000, description="coins credited for one yuan")
    ledger_writer: int = Field(
        -1,
        ge=-1,
        # models.CREDIT_SLOTS - 1, repeated here because this package cannot import the models.
        le=15,
        description="number, 0 to 15, of the balance shard that a worker credits; -1: a free one",
    )
    database_rate_limit_connections: int = Field(
        2,
        ge=1,
        le=20,
        description="database connections for rate limits, besides `database.connections`",
    )
    limits_sms_phone: RateLimit = Field(
        "1 per 60 seconds; 5 per day", description="codes sent to one phone; empty: no limit"
    )
    limits_sms_address: RateLimit = Field(
        "20 per hour", description="code requests from one client address; empty: no limit"
    )
    limits_sms_network: RateLimit = Field(
        "100 per hour; 300 per day",
        description="code requests from one IPv6 network with a prefix of 48 bits; empty: no limit",
    )
    limits_sms_total: RateLimit = Field(
        "2000 per day", description="codes sent in total; empty: no limit"
    )
    limits_unverified_address: RateLimit = Field(
        "20 per hour",
        description="registrations of unverified phones from one address; empty: no limit",
    )
    limits_unverified_phone: RateLimit = Field(
        "3 per day",
        description="addresses that try to register one phone before its verification; after that,"
        " only the address that verified the phone can register it; empty: no limit",
    )
    limits_unverified_phone_address: RateLimit = Field(
        "1 per day",
        description="registrations of one phone from one address before its verification; after"
        " that, the address cannot register the phone unless it verifies it; empty: no limit",
    )
    limits_login_account: RateLimit = Field(
        "10 per 5 minutes; 30 per hour; 100 per day",
        description="wrong passwords for one account from one client address; empty: no limit",
    )
    limits_login_address: RateLimit = Field(
        "100 per hour; 500 per day",
        description="wrong passwords from one client address; empty: no limit",
    )
    limits_login_new_addresses: RateLimit = Field(
        "30 per 5 minutes; 100 per hour",
        description="login attempts for one account from addresses new to it; empty: no limit",
    )
    limits_password_hashes_account: RateLimit = Field(
        "20 per minute; 100 per hour",
        description="password hashes for one account from one client address; empty: no limit",
    )
    limits_password_hashes_address: RateLimit = Field(
        "60 per minute; 600 per hour",
        description="password hashes for one client address; empty: no limit",
    )
    limits_reset: RateLimit = Field(
        "20 per hour", description="password resets from one client address; empty: no limit"
    )
    limits_verify: RateLimit = Field(
        "120 per hour",
        description="code verifications from one client address; empty: no limit",
    )
    limits_register: RateLimit = Field(
        "60 per hour", description="registrations from one client address; empty: no limit"
    )
    limits_upload: RateLimit = Field(
        "10 per hour", description="uploads from one client address; empty: no limit"
    )
    limits_account_changes: RateLimit = Field(
        "60 per hour", description="profile changes and logouts of one account; empty: no limit"
    )
    limits_search: RateLimit = Field(
        "100 per hour", description="user searches by one account; empty: no limit"
    )
    limits_unknown_users: RateLimit = Field(
        "100 per hour",
        description="requests of one account for unknown users, in all operations; empty: no limit",
    )
    limits_friend_requests: RateLimit = Field(
        "60 per hour", description="friend requests by one account; empty: no limit"
    )
    limits_friend_changes: RateLimit = Field(
        "60 per minute; 600 per hour",
        description="message handling, friend removals, blocks and unblocks by one account; empty:"
        " no limit",
    )
    limits_rooms: RateLimit = Field(
        "20 per minute; 120 per hour",
        description="requests of one account to go live; empty: no limit",
    )
    limits_room_updates: RateLimit = Field(
        "60 per minute",
        description="heartbeats of one account, and its requests to leave; empty: no limit",
    )
    limits_event_tickets: RateLimit = Field(
        "30 per minute; 600 per hour",
        description="tickets for event streams of one account; empty: no limit",
    )
    limits_event_streams: RateLimit = Field(
        "60 per minute",
        description="new event streams of one account; empty: no limit",
    )
    limits_gifts: RateLimit = Field(
        "300 per minute; 5000 per hour", description="gifts of one account; empty: no limit"
    )
    limits_gift_retries: RateLimit = Field(
        "120 per hour",
        description="retries of gifts with the same `requestId` by one account that has reached"
        " `limits.gifts`; empty: no limit",
    )
    limits_refill: RateLimit = Field(
        "30 per hour", description="refills of one account; empty: no limit"
    )
    limits_refill_retries: RateLimit = Field(
        "120 per hour",
        description="retries of refills with the same `requestId` by one account; empty: no limit",
    )
    retention_rooms_days: int = Field(
        30, ge=0, le=3650, description="days until a closed room is deleted; 0: never"
    )
    retention_unpaid_orders_days: int = Field(
        180,
        ge=0,
        le=3650,
        description="days until an order that was never paid is deleted; 0: never",
    )
    retention_messages_days: int = Field(
        180,
        ge=0,
        le=3650,
        description="days until a friend request and its two messages are deleted; 0: never",
    )
    retention_codes_days: int = Field(
        1, ge=1, le=365, description="days until an expired verification code is deleted"
    )
    retention_blocks_days: int = Field(
        365,
        ge=0,
        le=3650,
        description="days for which a block of a removed account applies to a new account with the"
        " same phone; 0: none",
    )
    metrics_address: Annotated[str, AfterValidator(check_address)] = Field(
        "127.0.0.1:6544",
        description="private address that serves `/metrics` to Prometheus; empty: disabled",
    )
    sms_gateway: Gateway = Field(
        "livebackend.gateways.sms.qiniu.QiniuSms",
        description="dotted name of the SMS gateway class",
    )
    sms_template: str = Field(
        "", description="Qiniu's id of the SMS template that contains the code"
    )
    sms_api_url: HttpUrl = Field("https://sms.qiniuapi.com", description="URL of Qiniu's SMS API")
    qiniu_access_key: str = Field("", description="access key of your Qiniu account")
    qiniu_secret_key: SecretStr = Field(
        SecretStr(""), description="secret key of your Qiniu account; signs requests to Qiniu"
    )
    payments_gateway: Annotated[
        str, AfterValidator(_check_gateways), AfterValidator(_check_payments_gateway)
    ] = Field(
        "",
        validate_default=True,
        description="dotted names of payment gateways: the first opens orders, all settle payments",
    )
    payments_order_ttl_s: int = Field(
        7200, ge=600, le=604_800, description="seconds until an unpaid order is closed"
    )
    wechat_app_id: str = Field("", description="WeChat's id of the app")
    wechat_merchant: str = Field("", description="WeChat Pay's id of the merchant")
    wechat_serial: str = Field("", description="serial number of the merchant's certificate")
    wechat_key_file: str = Field("", description="PEM file with the merchant's private key")
    wechat_api_key: SecretStr = Field(SecretStr(""), description="the merchant's APIv3 key")
    wechat_public_key_file: str = Field(
        "",
        description="PEM file with WeChat Pay's public key; empty: its certificates are downloaded",
    )
    wechat_public_key_id: str = Field("", description="id of WeChat Pay's public key")
    streams_gateway: Gateway = Field(description="dotted name of the stream gateway class")
    streams_hub: Annotated[str, Field(pattern="^[A-Za-z0-9-]{1,50}$")] = Field(
        "livebackend",
        description="name of the Pili hub, or of the RTMP application, that contains the streams",
    )
    streams_api_url: HttpUrl = Field(
        "https://pili.qiniuapi.com", description="URL of Qiniu's Pili API"
    )
    streams_publish_security: Literal["none", "static", "expiry", "expiry_sk", "dynamic"] = Field(
        "static",
        description="how publish URLs are signed; must match the Pili hub's `publishSecurity`",
    )
    streams_publish_url_s: int = Field(
        3600,
        ge=60,
        le=86_400,
        description="seconds in which a signed publish URL can start a stream",
    )
    streams_publish_host: Host = Field(
        "", description="domain, with optional port, to which users publish by RTMP"
    )
    streams_rtmp_host: Host = Field(
        "", description="domain, with optional port, that serves streams by RTMP"
    )
    streams_hls_host: Host = Field(
        "", description="domain, with optional port, that serves streams by HLS"
    )
    streams_hdl_host: Host = Field(
        "", description="domain, with optional port, that serves streams as FLV over HTTP"
    )
    streams_snapshot_host: Host = Field(
        "", description="domain, with optional port, that serves snapshots of streams"
    )
    streams_playback_host: Host = Field(
        "", description="domain, with optional port, that serves recorded streams"
    )
    streams_control_url: HttpUrl = Field(
        "http://127.0.0.1:8081",
        description="URL of the control interface of your nginx-rtmp server",
    )
    streams_hook_secret: Annotated[SecretStr, AfterValidator(_check_shared_secret)] = Field(
        SecretStr(""), description="secret that your nginx-rtmp server sends with its callbacks"
    )
    streams_offline_timeout_s: int = Field(
        60, ge=5, le=3600, description="seconds without a stream until a room is closed"
    )
    streams_check_interval_s: Annotated[int, AfterValidator(_check_interval)] = Field(
        10,
        le=3600,
        description="seconds until a stale room is closed, at least 10; 0: no automatic rounds",
    )
    events_gateway: Annotated[str, AfterValidator(_check_optional_gateway)] = Field(
        "", description="dotted name of the event engine class; empty: no live events"
    )
    events_outbox_max_rows: int = Field(
        100_000,
        ge=1000,
        le=10_000_000,
        description="maximum rows of the outbox, each with an event, an event to all friends, or"
        " the gifts of one batch; more are dropped, those about live friends first",
    )
    events_outbox_max_age_s: int = Field(
        3600,
        ge=60,
        le=604_800,
        description="seconds until an event that could not be delivered is dropped",
    )
    events_public_url: Annotated[str, AfterValidator(_check_optional_url)] = Field(
        "",
        description="URL at which clients open event streams; empty: that of the event server, or"
        " `/events` below `http.public_url`",
    )
    events_replay_s: int = Field(
        120,
        ge=120,
        le=2400,
        description="seconds for which the engine stores events; the value of"
        " `nchan_message_timeout`",
    )
    events_publish_url: HttpUrl = Field(
        "http://127.0.0.1:6547", description="private URL at which your nginx accepts events"
    )
    events_publish_secret: Annotated[SecretStr, AfterValidator(_check_shared_secret)] = Field(
        SecretStr(""), description="secret with which livebackend publishes to your nginx"
    )
    events_address: Annotated[str, AfterValidator(_check_events_address)] = Field(
        "127.0.0.1:6545", description="address of the event server of `LocalEvents`"
    )
    events_app_url: Annotated[str, AfterValidator(_check_optional_url)] = Field(
        "",
        description="URL at which the event server reaches livebackend; empty: `http.public_url`",
    )
    events_max_streams_account: int = Field(
        5, ge=1, le=100, description="event streams of an account at the event server"
    )
    events_max_streams_address: int = Field(
        200, ge=1, description="event streams of a client address at the event server"
    )

    @classmethod
    def load(cls, ini: Mapping[str, Any], environment: Mapping[str, str]) -> Self:
        """Return the settings of an ini section, overridden by the environment.

        Logs a warning for each deprecated name.
        Raises SettingsError with every missing, unknown and invalid setting.
        """
        warn_of_deprecated_settings([*ini, *cls._from_environment(environment)])
        try:
            return cls.model_validate(cls.raw_values(ini, environment))
        except ValidationError as error:
            raise SettingsError(*_error_messages(error)) from None

    @classmethod
    def raw_values(cls, ini: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
        """Return the unparsed values of the settings that are set, by setting name.

        Raises SettingsError for a setting that is set by its name and by an alias.
        """
        values = {
            name: value for name, value in ini.items() if not name.startswith(_PYRAMID_PREFIXES)
        }
        return _without_aliases(values) | _without_aliases(cls._from_environment(environment))

    @classmethod
    def _from_environment(cls, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment variables that override settings, by setting name."""
        name_by_variable = {
            environment_variable(name): name for name in (*cls.fields_by_name(), *RENAMED_SETTINGS)
        }
        return {
            name_by_variable.get(key, key): value
            for key, value in environment.items()
            if key.startswith(ENVIRONMENT_PREFIX)
        }

    def require(self, *names: str) -> None:
        """Raise ValueError with the names of the settings that are empty."""
        empty_settings = [name for name in names if not getattr(self, name.replace(".", "_", 1))]
        if empty_settings:
            raise ValueError(f"required settings are empty: {', '.join(empty_settings)}")

    @property
    def signing_secrets(self) -> list[str]:
        """The setting `secrets` as text: the first secret signs, all secrets verify."""
        return [secret.get_secret_value() for secret in self.secrets]

    @property
    def trusted_proxies(self) -> list[IPv4Network | IPv6Network]:
        names = self.http_trusted_proxies.split()
        return [ip_network(network) for network in names if network != UNIX_SOCKET]

    @property
    def trusts_unix_socket(self) -> bool:
        """Whether requests over a unix socket come from a trusted proxy."""
        return UNIX_SOCKET in self.http_trusted_proxies.split()

    @property
    def allowed_origins(self) -> frozenset[str] | None:
        """The origins whose pages can send requests; None for all."""
        origins = self.http_allowed_origins.split()
        if ANY_ORIGIN in origins:
            return None
        return frozenset([origin_of(self.http_public_url), *origins])

    @property
    def default_event_stream_url(self) -> str:
        """The URL at which clients open event streams if nothing else is set."""
        return f"{self.http_public_url.rstrip('/')}/events"

    @property
    def rate_limits(self) -> dict[str, str]:
        """The rule of each rate limit, by setting name without the prefix `limits.`."""
        return {
            name.removeprefix("limits_"): value
            for name, value in self
            if name.startswith("limits_")
        }

    @classmethod
    def fields_by_name(cls) -> dict[str, Any]:
        """Return the pydantic field of every setting, by its name in ini files."""
        return {_setting_name(name): field for name, field in cls.model_fields.items()}


def with_default_public_url(ini: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an ini section, with a default for `http.public_url`.

    The default URL contains the host and port in `defaults`. Without them, there is no default.
    """
    has_public_url = "http.public_url" in {_NAME_BY_ALIAS.get(name, name) for name in ini}
    if has_public_url or not {"host", "port"} <= defaults.keys():
        return dict(ini)
    host = str(defaults["host"])
    url_host = f"[{host}]" if ":" in host else host  # an IPv6 address
    return {"http.public_url": f"http://{url_host}:{defaults['port']}", **ini}


def listen_address(defaults: Mapping[str, Any]) -> tuple[str, int]:
    """Return `host` and `port` of the section [DEFAULT] of an ini file. Raises SettingsError."""
    checks: tuple[tuple[str, Any], ...] = (("host", check_host), ("port", parse_port))
    values: dict[str, Any] = {}
    errors = []
    for name, check in checks:
        try:
            values[name] = check(str(defaults[name]))
        except KeyError:
            errors.append(f"{name}: is missing in the section [DEFAULT]")
        except ValueError as error:
            errors.append(f"{name}: {error}")
    if errors:
        raise SettingsError(*errors)
    return values["host"], values["port"]


def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers send it: in lower case, no default port."""
    parts = urlsplit(url.lower())
    default_port = {"http": "80", "https": "443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(f':{default_port}')}"


def environment_variable(name: str) -> str:
    """Return the name of the environment variable that overrides a setting."""
    return ENVIRONMENT_PREFIX + name.upper().replace(".", "_")


def _without_aliases(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each alias by its setting's name; raise SettingsError if both are set."""
    duplicate_aliases = [
        alias for alias, name in _NAME_BY_ALIAS.items() if {alias, name} <= values.keys()
    ]
    if duplicate_aliases:
        raise SettingsError(
            *(
                f"{alias}: {_NAME_BY_ALIAS[alias]} is set too; remove {alias}"
                for alias in duplicate_aliases
            )
        )
    return {_NAME_BY_ALIAS.get(name, name): value for name, value in values.items()}


def _error_messages(error: ValidationError) -> list[str]:
    messages = []
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0])
        message = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(detail["type"])
        messages.append(f"{name}: {message or detail['msg'].removeprefix('Value error, ')}")
    return messages
