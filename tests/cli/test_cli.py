"""What an operator types."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import Result
from webtest import Upload

from livebackend.cli import main
from livebackend.database.engine import Database
from livebackend.database.migrations import check_migrated
from tests.support.api import Api, Person, World
from tests.support.application import INI
from tests.support.commands import run
from tests.support.fake_server import closed_port

HOSTS = "streams.publish_host, streams.rtmp_host, streams.hls_host"
PRODUCTION = INI.with_name("production.ini")
WECHAT = {
    "LIVEBACKEND_PAYMENTS_GATEWAY": "livebackend.gateways.payments.wechat.WechatPayments",
    "LIVEBACKEND_WECHAT_APP_ID": "wx0000000000000001",
    "LIVEBACKEND_WECHAT_MERCHANT": "1900000001",
}


class TestMigrate:
    def test_it_makes_the_tables(self, new_database: Callable[[str], str], worker_id: str) -> None:
        url = new_database(f"cli_{worker_id}")
        for _ in range(2):
            done = run("migrate", INI, LIVEBACKEND_DATABASE_URL=url)
            assert (done.exit_code, done.stdout) == (0, "the database is up to date\n")
            done = run("migrate", INI, "--json", LIVEBACKEND_DATABASE_URL=url)
            assert json.loads(done.stdout) == {"migrated": True}
        database = Database(url)
        check_migrated(database)
        database.close()

    def test_status_and_dry_run_change_nothing(
        self, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        url = new_database(f"cli_{worker_id}")
        status = run("migrate", INI, "--status", LIVEBACKEND_DATABASE_URL=url)
        assert status.exit_code == 0
        assert {line.split()[1] for line in status.stdout.splitlines()} == {"missing"}
        sql = run("migrate", INI, "--dry-run", LIVEBACKEND_DATABASE_URL=url)
        assert "CREATE TABLE transfers" in sql.stdout
        again = run("migrate", INI, "--status", LIVEBACKEND_DATABASE_URL=url)
        assert again.stdout == status.stdout
        assert run("migrate", INI, LIVEBACKEND_DATABASE_URL=url).exit_code == 0
        done = run("migrate", INI, "--status", "--json", LIVEBACKEND_DATABASE_URL=url)
        assert all(each["is_applied"] for each in json.loads(done.stdout)["migrations"])

    def test_a_database_that_is_away_is_one_message(self) -> None:
        url = "postgresql+psycopg2://nobody@127.0.0.1:1/nothing"
        done = run("migrate", INI, LIVEBACKEND_DATABASE_URL=url)
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: the settings are faulty:\n  database.url: ")

    def test_faulty_settings_are_one_message(self) -> None:
        done = run("migrate", INI, LIVEBACKEND_CODES_TTL_S="never")
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: the settings are faulty:\n  codes.ttl_s: ")


class TestSweep:
    def sweep(self, url: str, **environment: str) -> Result:
        return run("sweep", INI, LIVEBACKEND_DATABASE_URL=url, **environment)

    def test_it_closes_what_a_crash_left_behind(
        self, ann: Person, database: Database, database_url: str, world: World
    ) -> None:
        ann.live()
        with database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET state = 'opening', started_at = now() - interval '1 minute'"
            )
        done = self.sweep(database_url)
        assert done.stdout == (
            "0 rooms looked at, 1 closed, 1 streams disabled, 0 pictures dropped,"
            " 0 payment orders reconciled\n"
        ), done.stderr
        assert done.exit_code == 0
        assert world.rows("rooms")[0]["close_reason"] == "abandoned"
        assert self.sweep(database_url).stdout.startswith("0 rooms looked at, 0 closed, 0")

    def test_it_drops_pictures_that_nobody_claimed(
        self, api: Api, database_url: str, var_dir: Path, world: World
    ) -> None:
        for n in range(3):
            api.post("/upload", img=Upload(f"{n}.png", b"picture", "image/png"))
        world.execute("UPDATE pictures SET created_at = now() - interval '24 hours 1 second'")
        done = self.sweep(database_url, LIVEBACKEND_VAR_DIR=str(var_dir))
        assert "3 pictures dropped" in done.stdout, done.stderr
        assert world.rows("pictures") == []
        assert list((var_dir / "pictures").rglob("*.*")) == []

    def test_a_provider_that_fails_is_told(
        self, ann: Person, database_url: str, world: World
    ) -> None:
        ann.live()
        before = world.rows("rooms")
        done = self.sweep(
            database_url,
            LIVEBACKEND_STREAMS_GATEWAY="livebackend.gateways.streams.PiliV1",
            LIVEBACKEND_STREAMS_URL=f"http://127.0.0.1:{closed_port()}",
            LIVEBACKEND_QINIU_ACCESS_KEY="ak",
            LIVEBACKEND_QINIU_SECRET_KEY="sk",
        )
        assert done.exit_code == 1
        assert "a provider failed; the next round tries again" in done.stderr
        assert world.rows("rooms") == before

    def test_tables_that_are_behind_are_told(
        self, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        done = self.sweep(new_database(f"sweep_{worker_id}"))
        assert done.exit_code == 1
        assert "run `livebackend migrate`" in done.stderr


class TestCheckConfig:
    def test_sound_settings(self) -> None:
        done = run("check-config", INI)
        assert (done.exit_code, done.stdout) == (0, "the settings are sound\n")

    def test_every_fault_is_named(self) -> None:
        done = run("check-config", PRODUCTION)
        assert done.exit_code == 1
        for name in ("database.url", "secrets", "passwords.pepper", "streams.gateway"):
            assert f"  {name}: is missing\n" in done.stderr

    @pytest.mark.parametrize(
        ("gateway", "needs"),
        [
            ("PiliV1", "qiniu.access_key, qiniu.secret_key"),
            ("PiliV2", f"qiniu.access_key, qiniu.secret_key, {HOSTS}"),
            ("NginxRtmpStreams", f"{HOSTS}, streams.hook_secret"),
        ],
    )
    def test_what_a_gateway_needs_is_named(self, gateway: str, needs: str) -> None:
        name = f"livebackend.gateways.streams.{gateway}"
        done = run("check-config", INI, LIVEBACKEND_STREAMS_GATEWAY=name)
        assert done.exit_code == 1
        assert f"streams.gateway: {name} can't be used: it needs {needs}\n" in done.stderr

    @pytest.mark.parametrize("missing", [["wechatpayv3"], ["wechatpayv3", "cryptography"]])
    def test_missing_package_of_wechat_pay_is_named(
        self, missing: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in missing:
            # An entry that is None makes the import fail.
            monkeypatch.setitem(sys.modules, name, None)
        for name in [name for name in sys.modules if "payments.wechat" in name]:
            monkeypatch.delitem(sys.modules, name)
        done = run("check-config", INI, LIVEBACKEND_COINS_REFILL="order", **WECHAT)
        assert done.exit_code == 1
        assert (
            "  payments.gateway: livebackend.gateways.payments.wechat.WechatPayments can't be used:"
            " the package `wechatpayv3` is missing or incomplete:"
            " run `pip install 'livebackend[wechat]'`\n"
        ) in done.stderr

    @pytest.mark.parametrize(
        ("gateway", "reason"),
        [
            ("tests.support.fake_gateways.Missing", "has no attribute 'Missing'"),
            ("tests.missing.Sms", "No module named 'tests.missing'"),
            ("missing.Sms", "No module named 'missing'"),
        ],
    )
    def test_gateway_that_does_not_exist_is_named(self, gateway: str, reason: str) -> None:
        done = run("check-config", INI, LIVEBACKEND_SMS_GATEWAY=gateway)
        assert done.exit_code == 1
        assert f"sms.gateway: {gateway} can't be used: " in done.stderr
        assert reason in done.stderr

    def test_a_folder_that_takes_no_files(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        folder = str(tmp_path / "file" / "var")
        done = run("check-config", INI, LIVEBACKEND_VAR_DIR=folder)
        assert done.exit_code == 1
        assert f"  var.dir: nothing can be kept in {folder}\n" in done.stderr

    def test_yes_is_true(self, new_database: Callable[[str], str], worker_id: str) -> None:
        empty = new_database(f"empty_{worker_id}")
        for said, exit_code in (("yes", 0), ("True", 0), ("false", 1)):
            environment = {"LIVEBACKEND_DATABASE_URL": empty, "LIVEBACKEND_DATABASE_MIGRATE": said}
            assert run("check-config", INI, **environment).exit_code == exit_code

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert run("check-config", tmp_path / "no.ini").exit_code == 2


def commands(group: click.Group = main, *words: str) -> Iterator[tuple[str, ...]]:
    """Every command and group, by its words."""
    for name, command in group.commands.items():
        yield (*words, name)
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    done = run(*words, "--help")
    assert done.exit_code == 0
    assert f"Example: livebackend {' '.join(words)}" in done.stdout


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_can_print_json(words: tuple[str, ...]) -> None:
    said = run(*words, "--help").stdout
    assert "--json" in said or "COMMAND" in said or words == ("serve",)


def test_faults_are_json_too() -> None:
    done = run("check-config", PRODUCTION, "--json")
    assert done.exit_code == 1
    assert "secrets: is missing" in json.loads(done.stdout)["faults"]
