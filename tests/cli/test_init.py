"""`livebackend init` writes files that need only a few values from the operator."""

import stat
from configparser import RawConfigParser
from pathlib import Path

from livebackend.config.settings import Settings
from tests.support.application import DEVELOPMENT_INI, PRODUCTION_INI
from tests.support.commands import run_command


def read_environment(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines()
    name_value_pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {name: value.strip('"') for name, value in name_value_pairs}


def test_init_writes_settings_and_secrets_to_different_files(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    result = run_command(
        "init", folder, "--url", "https://live.test", "--data-dir", tmp_path / "var"
    )
    assert result.exit_code == 0, result.output
    ini_file, secret_file = folder / "production.ini", folder / "livebackend.env"
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    variables = read_environment(secret_file)
    signing_secret, password_pepper = (
        variables["LIVEBACKEND_SECRETS"],
        variables["LIVEBACKEND_PASSWORDS_PEPPER"],
    )
    assert signing_secret != password_pepper
    assert min(len(signing_secret), len(password_pepper)) >= 43
    assert signing_secret not in ini_file.read_text()
    assert signing_secret not in result.output
    for name in ("livebackend migrate", "livebackend doctor", str(ini_file), str(secret_file)):
        assert name in result.stdout

    parser = RawConfigParser()
    parser.read(ini_file)
    section = {
        name: value
        for name, value in parser["app:main"].items()
        if name not in ("use", *parser.defaults())
    }
    # These are the only values that the operator must fill in.
    variables |= {
        "LIVEBACKEND_SMS_TEMPLATE": "1",
        "LIVEBACKEND_QINIU_ACCESS_KEY": "ak",
        "LIVEBACKEND_QINIU_SECRET_KEY": "sk",
        "LIVEBACKEND_STREAMS_GATEWAY": "tests.support.fake_gateways.RecordingStreams",
    }
    settings = Settings.load(section, variables)
    assert settings.http_public_url == "https://live.test"
    assert settings.data_dir == tmp_path / "var"


def test_each_init_creates_new_secrets(tmp_path: Path) -> None:
    run_command("init", tmp_path / "a")
    run_command("init", tmp_path / "b")
    first_variables, second_variables = (
        read_environment(tmp_path / name / "livebackend.env") for name in ("a", "b")
    )
    assert first_variables["LIVEBACKEND_SECRETS"] != second_variables["LIVEBACKEND_SECRETS"]


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "livebackend.env").write_text("mine")
    result = run_command("init", tmp_path)
    assert result.exit_code == 1
    assert "existing files are not overwritten" in result.stderr
    assert (tmp_path / "livebackend.env").read_text() == "mine"
    assert not (tmp_path / "production.ini").exists()


def test_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_command("init", tmp_path / "file" / "etc")
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr


def test_packaged_production_ini_equals_the_one_in_the_repository() -> None:
    packaged_ini = DEVELOPMENT_INI.parent / "livebackend" / "production.ini"
    assert packaged_ini.read_bytes() == PRODUCTION_INI.read_bytes()
