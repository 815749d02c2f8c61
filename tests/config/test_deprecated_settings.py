"""Deprecated names of settings still work, with a warning that has the new name."""

from pathlib import Path

import pytest
from pyramid.paster import get_appsettings

from livebackend.config.deprecated_names import RENAMED_PICTURE_MODES, RENAMED_SETTINGS
from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings, environment_variable, with_default_public_url
from tests.support.application import DEVELOPMENT_INI
from tests.support.commands import run_command
from tests.support.settings import REQUIRED_SETTINGS

DEPRECATED_NAMES_BY_NAME = {name: old_name for old_name, name in RENAMED_SETTINGS.items()}


def test_every_deprecated_name_maps_to_an_existing_setting() -> None:
    assert set(RENAMED_SETTINGS.values()) <= Settings.fields_by_name().keys()
    assert not RENAMED_SETTINGS.keys() & Settings.fields_by_name().keys()


@pytest.fixture
def deprecated_ini(tmp_path: Path) -> Path:
    """Path of a copy of `development.ini` with deprecated setting names and values."""
    lines = []
    for line in DEVELOPMENT_INI.read_text("utf-8").splitlines():
        name, separator, value = line.partition(" =")
        lines.append(f"{DEPRECATED_NAMES_BY_NAME.get(name, name)}{separator}{value}")
    path = tmp_path / "old.ini"
    path.write_text(
        "\n".join(lines).replace("pictures.keep = original", "pictures.keep = as_sent"), "utf-8"
    )
    return path


def test_ini_file_with_deprecated_names_has_the_same_settings(
    deprecated_ini: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deprecated_section = get_appsettings(str(deprecated_ini), name="main")
    new_section = get_appsettings(str(DEVELOPMENT_INI), name="main")
    expected = {**new_section, "data.dir": f"{deprecated_ini.parent}/var"}
    assert Settings.load(deprecated_section, {}) == Settings.load(expected, {})
    deprecated_names = RENAMED_SETTINGS.keys() & deprecated_section.keys()
    assert len(deprecated_names) > 10
    for name in deprecated_names:
        assert f"setting {name} is deprecated: use {RENAMED_SETTINGS[name]}" in caplog.text
    assert "pictures.mode = as_sent is deprecated: use original" in caplog.text


@pytest.mark.processes
def test_check_config_accepts_an_ini_file_with_deprecated_names(deprecated_ini: Path) -> None:
    result = run_command("check-config", deprecated_ini)
    assert (result.exit_code, result.stdout) == (0, "the settings are valid\n")


@pytest.mark.parametrize(("old_name", "name"), RENAMED_SETTINGS.items())
def test_environment_variable_with_a_deprecated_name_overrides_the_ini_file(
    old_name: str, name: str
) -> None:
    values = Settings.raw_values({name: "from the file"}, {environment_variable(old_name): "new"})
    assert values == {name: "new"}


@pytest.mark.parametrize(("old_name", "name"), RENAMED_SETTINGS.items())
def test_setting_under_its_deprecated_and_its_new_name_is_an_error(
    old_name: str, name: str
) -> None:
    message = f"{old_name}: {name} is set too; remove {old_name}"
    with pytest.raises(SettingsError) as in_file:
        Settings.load({**REQUIRED_SETTINGS, old_name: "1", name: "1"}, {})
    assert in_file.value.errors == (message,)
    variables = {environment_variable(old_name): "1", environment_variable(name): "1"}
    with pytest.raises(SettingsError) as in_environment:
        Settings.load(REQUIRED_SETTINGS, variables)
    assert in_environment.value.errors == (message,)


@pytest.mark.parametrize(("old_mode", "mode"), RENAMED_PICTURE_MODES.items())
def test_deprecated_picture_mode_works(old_mode: str, mode: str) -> None:
    assert Settings.load({**REQUIRED_SETTINGS, "pictures.mode": old_mode}, {}).pictures_mode == mode


def test_public_url_with_its_deprecated_name_is_not_replaced_by_the_default() -> None:
    section = with_default_public_url(
        {"http.url": "https://live.example"}, {"host": "0.0.0.0", "port": "80"}
    )
    assert Settings.raw_values(section, {}) == {"http.public_url": "https://live.example"}
