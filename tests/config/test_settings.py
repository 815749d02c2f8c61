"""Validation of settings, and overrides by environment variables."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pyramid.paster import get_appsettings

import livebackend
from livebackend.config.errors import SettingsError
from livebackend.config.settings import (
    PROXY_READ_TIMEOUT_MARGIN_S,
    Settings,
    environment_variable,
    with_default_public_url,
)
from livebackend.models import CREDIT_SLOTS
from tests.support.application import DEVELOPMENT_INI
from tests.support.settings import REQUIRED_SETTINGS, UNSAFE_SETTINGS

PUBLISHED_SECRET = "for-development-only-not-a-secret-0000"


def test_every_default_is_the_safe_value() -> None:
    settings = Settings.load(REQUIRED_SETTINGS, {})
    assert settings.codes_reply == "ticket"
    assert settings.register_verified_phone == "required"
    assert settings.pictures_mode == "reencoded"
    assert settings.passwords_reject_common is True
    assert all(settings.rate_limits.values())
    assert settings.trusted_proxies == []
    assert settings.pictures_require_uploaded is True
    assert settings.phones_pattern == "1[0-9]{10}"
    assert settings.http_allow_query_parameters is False
    assert settings.coins_refill == "disabled"
    assert not settings.streams_hook_secret
    assert (settings.streams_offline_timeout_s, settings.streams_check_interval_s) == (60, 10)
    assert settings.database_migrate is False


def remedy(name: str) -> str:
    return f"set {name} = true to allow it"


def test_all_errors_are_reported_in_one_message() -> None:
    ini = {**REQUIRED_SETTINGS, "secrets": "short", "coins.per_yuan": "0", "no.such": "1"}
    ini |= {"codes.reply": "plain", "coins.refill": "direct", "passwords.pepper": PUBLISHED_SECRET}
    ini |= {"streams.gateway": "livebackend.development.streams.DevelopmentStreams"}
    del ini["data.dir"]
    with pytest.raises(SettingsError) as caught:
        Settings.load(ini, {"LIVEBACKEND_NONSENSE": "1"})
    assert str(caught.value).splitlines() == [
        "the settings are invalid:",
        "  data.dir: is missing",
        "  secrets: must have at least 32 characters",
        f"  passwords.pepper: is a published secret; {remedy('secrets.allow_insecure')}",
        f"  codes.reply: returns the code to the client; {remedy('codes.allow_plain')}",
        f"  coins.refill: credits unpaid coins; {remedy('coins.allow_free_refill')}",
        "  coins.per_yuan: Input should be greater than or equal to 1",
        f"  streams.gateway: is a development gateway; {remedy('gateways.allow_development')}",
        "  no.such: is unknown",
        "  LIVEBACKEND_NONSENSE: is unknown",
    ]


def test_unsafe_values_need_the_setting_that_allows_them() -> None:
    ini = {"codes.reply": "plain", "coins.refill": "direct", "secrets": PUBLISHED_SECRET}
    ini |= {"sms.gateway": "livebackend.development.sms.DevelopmentSms"}
    ini |= {"payments.gateway": "livebackend.development.payments.DevelopmentPayments"}
    assert Settings.load({**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **ini}, {}).codes_reply == "plain"
    for name in UNSAFE_SETTINGS:
        with pytest.raises(SettingsError, match=name):
            Settings.load({**REQUIRED_SETTINGS, **UNSAFE_SETTINGS, **ini, name: "false"}, {})


def test_error_message_does_not_contain_the_secret() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(
            {**REQUIRED_SETTINGS, "secrets": "hunter2", "passwords.pepper": "hunter3"}, {}
        )
    assert "hunter" not in str(caught.value)


def test_no_representation_of_the_settings_contains_a_secret() -> None:
    secret = "hunter2-hunter2-hunter2-hunter2-hunter2"
    names = [
        name
        for name, field in Settings.fields_by_name().items()
        if "Secret" in str(field.annotation)
    ]
    assert {"database.url", "secrets", "passwords.pepper", "wechat.api_key"} <= set(names)
    secrets = dict.fromkeys(names, secret) | {"database.url": f"postgresql://x:{secret}@h/x"}
    settings = Settings.load({**REQUIRED_SETTINGS, **secrets}, {})
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({**REQUIRED_SETTINGS, **secrets, "x": secret})
    for text in (repr(settings), str(settings), str(settings.model_dump()), str(caught.value)):
        assert "hunter2" not in text
    assert "hunter2" not in settings.model_dump_json()


@pytest.mark.parametrize("name", list(Settings.fields_by_name()))
def test_environment_variable_overrides_only_its_own_setting(name: str) -> None:
    changed_values: dict[str, str] = {
        "database.url": "embedded",
        "data.dir": "/tmp/y",
        "codes.reply": "plain",
        "pictures.mode": "original",
        "http.public_url": "https://other.example/live",
        "http.trusted_proxies": "10.0.0.0/8 ::1 unix",
        "http.allowed_origins": "https://www.live.example",
        "register.verified_phone": "optional",
        "coins.refill": "direct",
        "phones.pattern": "[0-9]{11}",
        "streams.hub": "other",
        "metrics.address": "[::1]:9000",
        "events.address": "127.0.0.1:9000",
        "events.app_url": "http://10.0.0.1:6543",
        "events.public_url": "https://other.example/events",
        "events.publish_url": "http://10.0.0.1:6547",
        "streams.publish_security": "expiry_sk",
        "passwords.queue_timeout_s": "3",
        "pictures.max_cpu_s": "2",
        "sms.api_url": "https://other.example",
        "streams.api_url": "https://other.example",
        "streams.control_url": "https://other.example",
    }
    default = Settings.fields_by_name()[name].default
    value = changed_values.get(name) or (
        "true" if default is False else "false" if default is True else
        str(default + 1) if isinstance(default, int) else "o" * 40
    )  # fmt: skip
    field = name.replace(".", "_", 1)
    if name.startswith("limits."):
        value = "3 per 7 minutes"
    ini = REQUIRED_SETTINGS | UNSAFE_SETTINGS
    if name in UNSAFE_SETTINGS:
        del ini[name]
    default_settings, changed_settings = (
        Settings.load(ini, {}),
        Settings.load(ini, {environment_variable(name): value}),
    )
    assert getattr(default_settings, field) != getattr(changed_settings, field)
    assert all(
        getattr(default_settings, other_field) == getattr(changed_settings, other_field)
        for other_field in Settings.model_fields
        if other_field != field
    )


def test_environment_variables_of_settings_have_distinct_names() -> None:
    names = list(Settings.fields_by_name())
    assert len({environment_variable(name) for name in names}) == len(names)


def test_secrets_are_separated_by_blanks() -> None:
    settings = Settings.load({**REQUIRED_SETTINGS, "secrets": f"{'a' * 32}\n  {'b' * 32}"}, {})
    assert settings.signing_secrets == ["a" * 32, "b" * 32]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phones.pattern", "["),
        ("streams.hub", "a b"),
        ("streams.hub", ""),
        ("streams.publish_security", "magic"),
        ("streams.hls_host", "http://hls.example"),
        ("streams.rtmp_host", "a b"),
        ("streams.hook_secret", "short"),
        ("streams.hook_secret", f"{'a' * 32}?x=y"),
        ("streams.hook_secret", PUBLISHED_SECRET),
        ("streams.hook_secret", "a" * 201),
        ("streams.offline_timeout_s", "4"),
        ("streams.check_interval_s", "9"),
        ("streams.check_interval_s", "-1"),
        ("passwords.cost", "3"),
        ("passwords.cost", "x"),
        ("database.migrate", "maybe"),
        ("coins.refill", "free"),
        ("secrets", ""),
        ("limits.search", "often"),
        ("http.public_url", "live.example"),
        ("http.public_url", "https://live.example/?x"),
        ("http.trusted_proxies", "localhost"),
        ("pictures.unused_ttl_s", "1"),
        ("secrets", f"{'a' * 32} short"),
    ],
)
def test_invalid_value_is_reported_with_its_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.load({**REQUIRED_SETTINGS, name: value}, {})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load(REQUIRED_SETTINGS, {}).coins_per_yuan = 2


class TestMain:
    def test_invalid_settings_end_the_process_with_one_message(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(
            SystemExit, match=r"(?s)invalid.*data\.dir: is missing.*secrets: is missing"
        ):
            livebackend.main({}, **{"no.such": "1"})

    @pytest.mark.parametrize(
        ("gateway", "message"),
        [
            ("livebackend.gateways.sms.Nothing", "cannot be loaded"),
            ("no.such.module", "cannot be loaded"),
            ("builtins.dict", "cannot be loaded"),
            ("livebackend.development.streams.DevelopmentStreams", "does not implement SmsGateway"),
        ],
    )
    def test_gateway_setting_without_a_gateway_class_is_reported(
        self, gateway: str, message: str, new_app: Any
    ) -> None:
        with pytest.raises(SystemExit, match=rf"sms\.gateway: {gateway} .*({message})"):
            new_app(sms__gateway=gateway)

    def test_database_with_pending_migrations_is_refused(
        self, new_app: Any, new_database: Any, worker_id: str
    ) -> None:
        url = new_database(f"behind_{worker_id}")
        with pytest.raises(SystemExit, match="run `livebackend migrate`"):
            new_app(database__url=url)

    def test_data_dir_of_development_ini_does_not_depend_on_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        settings = Settings.load(get_appsettings(str(DEVELOPMENT_INI)), {})
        assert settings.data_dir == DEVELOPMENT_INI.parent / "var"


def test_default_public_url_has_the_host_and_port_of_the_ini_file() -> None:
    ini = get_appsettings(str(DEVELOPMENT_INI), options={"port": "7000"})
    section = with_default_public_url(ini, ini.global_conf)
    assert Settings.load(section, {}).http_public_url == "http://127.0.0.1:7000"
    section = with_default_public_url({"http.public_url": "https://live.example"}, ini.global_conf)
    assert section == {"http.public_url": "https://live.example"}
    assert with_default_public_url({}, {}) == {}


def test_default_public_url_of_an_ipv6_address_is_valid() -> None:
    ini = {key: value for key, value in REQUIRED_SETTINGS.items() if key != "http.public_url"}
    section = with_default_public_url(ini, {"host": "::1", "port": "6543"})
    assert Settings.load(section, {}).http_public_url == "http://[::1]:6543"


def test_repr_and_dump_of_settings_contain_no_secret() -> None:
    secrets = {
        "database.url": "postgresql+psycopg2://live:hidden-1@db/live",
        "secrets": f"{'hidden-2' * 4} {'hidden-3' * 4}",
        "passwords.pepper": "hidden-4" * 4,
        "qiniu.secret_key": "hidden-5",
        "wechat.api_key": "hidden-6",
        "streams.hook_secret": "hidden-7" * 4,
    }
    settings = Settings.load({**REQUIRED_SETTINGS, **secrets}, {})
    output = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "hidden" not in output


def test_sqlalchemy_url_is_an_alias_of_database_url() -> None:
    ini = {name: value for name, value in REQUIRED_SETTINGS.items() if name != "database.url"}
    settings = Settings.load({**ini, "sqlalchemy.url": "postgresql:///alias"}, {})
    assert settings.database_url.get_secret_value() == "postgresql:///alias"


def test_setting_with_both_its_name_and_its_alias_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"sqlalchemy\.url: database\.url is set too"):
        Settings.load({**REQUIRED_SETTINGS, "sqlalchemy.url": "postgresql:///alias"}, {})


def test_largest_ledger_writer_number_is_the_last_balance_shard() -> None:
    settings_with_largest_number = {**REQUIRED_SETTINGS, "ledger.writer": str(CREDIT_SLOTS - 1)}
    assert Settings.load(settings_with_largest_number, {}).ledger_writer == CREDIT_SLOTS - 1
    with pytest.raises(SettingsError, match=r"ledger\.writer"):
        Settings.load(settings_with_largest_number | {"ledger.writer": str(CREDIT_SLOTS)}, {})


def test_proxy_waits_for_a_response_longer_than_a_request_waits_to_hash_a_password() -> None:
    nginx_site = (DEVELOPMENT_INI.parent / "deploy/nginx-site.conf").read_text()
    proxy_timeouts_s = [
        # That of the server, not those of its locations.
        int(timeout)
        for timeout in re.findall(r"^    proxy_read_timeout (\d+)s;", nginx_site, re.MULTILINE)
    ]
    settings = Settings.load(REQUIRED_SETTINGS, {})
    assert proxy_timeouts_s == [settings.passwords_queue_timeout_s + PROXY_READ_TIMEOUT_MARGIN_S]
