"""Settings: what is missing or wrong is named at once, and the environment wins."""

from pathlib import Path
from typing import Any

import pytest
from pyramid.paster import get_appsettings

import livebackend
from livebackend.settings import Settings, SettingsError, variable
from tests.conftest import INI

GIVEN = {
    "database.url": "postgresql+psycopg2:///x",
    "var.dir": "/tmp/x",
    "secrets": "s" * 32,
    "passwords.pepper": "p" * 32,
    "codes.reply": "plain",
    "pictures.keep": "as_sent",
    "sms.gateway": "livebackend.gateways.sms.EmbeddedSms",
    "streams.gateway": "livebackend.gateways.streams.EmbeddedStreams",
}


def test_a_missing_setting_is_the_safe_one() -> None:
    settings = Settings.load(GIVEN, {})
    assert settings.register_verified_phone == "required"
    assert settings.pictures_only_ours is True
    assert settings.phones_pattern == "1[0-9]{10}"
    assert settings.http_query_parameters is False
    assert settings.coins_refill == "disabled"
    assert settings.database_migrate is False


def test_all_faults_are_named_at_once() -> None:
    ini = {**GIVEN, "secrets": "short", "coins.per_yuan": "0", "no.such": "1"}
    del ini["var.dir"], ini["codes.reply"]
    with pytest.raises(SettingsError) as caught:
        Settings.load(ini, {"LIVEBACKEND_NONSENSE": "1"})
    assert str(caught.value).splitlines() == [
        "the settings are faulty:",
        "  var.dir: is missing",
        "  secrets: must have 32 characters at least",
        "  codes.reply: is missing",
        "  coins.per_yuan: Input should be greater than or equal to 1",
        "  no.such: is unknown",
        "  LIVEBACKEND_NONSENSE: is unknown",
    ]


def test_a_fault_does_not_show_the_secret() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({**GIVEN, "secrets": "hunter2", "passwords.pepper": "hunter3"}, {})
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("name", list(Settings.names()))
def test_every_setting_has_its_variable(name: str) -> None:
    other: dict[str, str] = {
        "database.url": "embedded",
        "var.dir": "/tmp/y",
        "codes.reply": "plain",
        "pictures.keep": "as_sent",
        "register.verified_phone": "optional",
        "coins.refill": "direct",
        "phones.pattern": "[0-9]{11}",
        "streams.hub": "other",
        "passwords.wait_s": "3",
    }
    default = Settings.names()[name].default
    value = other.get(name) or (
        "true" if default is False else "false" if default is True else
        str(default + 1) if isinstance(default, int) else "o" * 40
    )  # fmt: skip
    field = name.replace(".", "_", 1)
    before, after = Settings.load(GIVEN, {}), Settings.load(GIVEN, {variable(name): value})
    same = {"codes.reply", "pictures.keep"}  # these have one value yet
    assert (getattr(before, field) == getattr(after, field)) == (name in same)
    assert all(
        getattr(before, each) == getattr(after, each)
        for each in Settings.model_fields
        if each != field
    )


def test_variables_are_distinct() -> None:
    names = list(Settings.names())
    assert len({variable(name) for name in names}) == len(names)


def test_several_secrets_are_told_apart_by_blanks() -> None:
    settings = Settings.load({**GIVEN, "secrets": f"{'a' * 32}\n  {'b' * 32}"}, {})
    assert settings.secrets == ("a" * 32, "b" * 32)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phones.pattern", "["),
        ("streams.hub", "a b"),
        ("streams.hub", ""),
        ("passwords.cost", "3"),
        ("passwords.cost", "x"),
        ("database.migrate", "maybe"),
        ("coins.refill", "free"),
        ("secrets", ""),
        ("secrets", f"{'a' * 32} short"),
    ],
)
def test_a_faulty_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.load({**GIVEN, name: value}, {})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load(GIVEN, {}).coins_per_yuan = 2


class TestMain:
    def test_it_ends_with_one_message(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(SystemExit, match=r"(?s)faulty.*secrets: is missing.*var.dir|var.dir"):
            livebackend.main({}, **{"no.such": "1"})

    @pytest.mark.parametrize(
        ("dotted", "says"),
        [
            ("livebackend.gateways.sms.Nothing", "can't be used"),
            ("no.such.module", "can't be used"),
            ("builtins.dict", "can't be used"),
            ("livebackend.gateways.streams.EmbeddedStreams", "is no SmsGateway"),
        ],
    )
    def test_a_gateway_that_is_none_is_named(self, dotted: str, says: str, new_app: Any) -> None:
        with pytest.raises(SystemExit, match=rf"sms\.gateway: {dotted} .*({says})"):
            new_app(sms__gateway=dotted)

    def test_a_database_that_is_behind_is_refused(
        self, new_app: Any, new_database: Any, worker_id: str
    ) -> None:
        url = new_database(f"behind_{worker_id}")
        with pytest.raises(SystemExit, match="run `livebackend migrate`"):
            new_app(database__url=url)

    def test_development_ini_is_read_from_any_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        settings = Settings.load(get_appsettings(str(INI)), {})
        assert settings.var_dir == INI.parent / "var"
