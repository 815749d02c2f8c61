"""`livebackend init`: two files that need no more than what only the operator can know."""

import stat
from configparser import RawConfigParser
from pathlib import Path

from livebackend.config.settings import Settings
from tests.support.application import INI, PRODUCTION_INI
from tests.support.commands import run


def environment(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {name: value.strip('"') for name, value in pairs}


def test_it_writes_settings_and_secrets_apart(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    done = run("init", folder, "--url", "https://live.test", "--var-dir", tmp_path / "var")
    assert done.exit_code == 0, done.output
    ini, secret_file = folder / "production.ini", folder / "livebackend.env"
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    given = environment(secret_file)
    secret, pepper = given["LIVEBACKEND_SECRETS"], given["LIVEBACKEND_PASSWORDS_PEPPER"]
    assert secret != pepper
    assert min(len(secret), len(pepper)) >= 43
    assert secret not in ini.read_text()
    assert secret not in done.output
    for name in ("livebackend migrate", "livebackend doctor", str(ini), str(secret_file)):
        assert name in done.stdout

    parser = RawConfigParser()
    parser.read(ini)
    section = {
        name: value
        for name, value in parser["app:main"].items()
        if name not in ("use", *parser.defaults())
    }
    # What the operator is told to fill in, and nothing else.
    given |= {
        "LIVEBACKEND_SMS_TEMPLATE": "1",
        "LIVEBACKEND_QINIU_ACCESS_KEY": "ak",
        "LIVEBACKEND_QINIU_SECRET_KEY": "sk",
        "LIVEBACKEND_STREAMS_GATEWAY": "tests.support.fake_gateways.CountedStreams",
    }
    settings = Settings.load(section, given)
    assert settings.http_url == "https://live.test"
    assert settings.var_dir == tmp_path / "var"


def test_no_two_secrets_are_the_same(tmp_path: Path) -> None:
    run("init", tmp_path / "a")
    run("init", tmp_path / "b")
    a, b = (environment(tmp_path / name / "livebackend.env") for name in ("a", "b"))
    assert a["LIVEBACKEND_SECRETS"] != b["LIVEBACKEND_SECRETS"]


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "livebackend.env").write_text("mine")
    done = run("init", tmp_path)
    assert done.exit_code == 1
    assert "never overwritten" in done.stderr
    assert (tmp_path / "livebackend.env").read_text() == "mine"
    assert not (tmp_path / "production.ini").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("init", tmp_path / "file" / "etc")
    assert done.exit_code == 1
    assert "Not a directory" in done.stderr


def test_the_package_has_the_ini_file_of_the_tree() -> None:
    packaged = INI.parent / "livebackend" / "production.ini"
    assert packaged.read_bytes() == PRODUCTION_INI.read_bytes()
