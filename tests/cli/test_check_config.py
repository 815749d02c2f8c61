"""`livebackend check-config` reports every configuration error."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.application import DEVELOPMENT_INI, PRODUCTION_INI
from tests.support.commands import run_command

HOST_SETTINGS = "streams.publish_host, streams.rtmp_host, streams.hls_host"
WECHAT_ENVIRONMENT = {
    "LIVEBACKEND_PAYMENTS_GATEWAY": "livebackend.gateways.payments.wechat.WechatPayments",
    "LIVEBACKEND_WECHAT_APP_ID": "wx0000000000000001",
    "LIVEBACKEND_WECHAT_MERCHANT": "1900000001",
}


class TestCheckConfig:
    def test_valid_settings_exit_with_0(self) -> None:
        result = run_command("check-config", DEVELOPMENT_INI)
        assert (result.exit_code, result.stdout) == (0, "the settings are valid\n")

    def test_every_missing_setting_is_reported(self) -> None:
        result = run_command("check-config", PRODUCTION_INI)
        assert result.exit_code == 1
        for name in ("database.url", "secrets", "passwords.pepper", "streams.gateway"):
            assert f"  {name}: is missing\n" in result.stderr

    @pytest.mark.parametrize(
        ("gateway", "required_settings"),
        [
            ("PiliV1", "qiniu.access_key, qiniu.secret_key"),
            ("PiliV2", f"qiniu.access_key, qiniu.secret_key, {HOST_SETTINGS}"),
            ("NginxRtmpStreams", f"{HOST_SETTINGS}, streams.hook_secret"),
        ],
    )
    def test_empty_settings_that_a_gateway_needs_are_reported(
        self, gateway: str, required_settings: str
    ) -> None:
        name = f"livebackend.gateways.streams.{gateway}"
        result = run_command("check-config", DEVELOPMENT_INI, LIVEBACKEND_STREAMS_GATEWAY=name)
        assert result.exit_code == 1
        assert (
            f"streams.gateway: {name} cannot be loaded:"
            f" required settings are empty: {required_settings}\n" in result.stderr
        )

    @pytest.mark.parametrize("security", ["static", "expiry", "dynamic"])
    def test_publish_security_that_pili_v2_does_not_support_is_reported(
        self, security: str
    ) -> None:
        names = (*HOST_SETTINGS.split(", "), "qiniu.access_key", "qiniu.secret_key")
        settings = {f"LIVEBACKEND_{name.replace('.', '_').upper()}": "a.example" for name in names}
        settings |= {
            "LIVEBACKEND_STREAMS_GATEWAY": "livebackend.gateways.streams.PiliV2",
            "LIVEBACKEND_STREAMS_PUBLISH_SECURITY": security,
        }
        result = run_command("check-config", DEVELOPMENT_INI, **settings)
        assert result.exit_code == 1
        assert f"streams.publish_security: {security} is not supported" in result.stderr
        settings["LIVEBACKEND_STREAMS_PUBLISH_SECURITY"] = "expiry_sk"
        assert run_command("check-config", DEVELOPMENT_INI, **settings).exit_code == 0

    @pytest.mark.parametrize("missing_packages", [["wechatpayv3"], ["wechatpayv3", "cryptography"]])
    def test_missing_package_of_wechat_pay_is_reported(
        self, missing_packages: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in missing_packages:
            # The value None in sys.modules makes an import of the package fail.
            monkeypatch.setitem(sys.modules, name, None)
        for name in [name for name in sys.modules if "payments.wechat" in name]:
            monkeypatch.delitem(sys.modules, name)
        result = run_command(
            "check-config", DEVELOPMENT_INI, LIVEBACKEND_COINS_REFILL="order", **WECHAT_ENVIRONMENT
        )
        assert result.exit_code == 1
        assert (
            "  payments.gateway: livebackend.gateways.payments.wechat.WechatPayments cannot be"
            " loaded: the package `wechatpayv3` is missing or incomplete:"
            " run `pip install 'livebackend[wechat]'`\n"
        ) in result.stderr

    @pytest.mark.parametrize(
        ("gateway", "reason"),
        [
            ("tests.support.fake_gateways.Missing", "has no attribute 'Missing'"),
            ("tests.missing.Sms", "No module named 'tests.missing'"),
            ("missing.Sms", "No module named 'missing'"),
        ],
    )
    def test_gateway_that_does_not_exist_is_reported(self, gateway: str, reason: str) -> None:
        result = run_command("check-config", DEVELOPMENT_INI, LIVEBACKEND_SMS_GATEWAY=gateway)
        assert result.exit_code == 1
        assert f"sms.gateway: {gateway} cannot be loaded: " in result.stderr
        assert reason in result.stderr

    def test_data_folder_that_cannot_be_created_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        folder = str(tmp_path / "file" / "var")
        result = run_command("check-config", DEVELOPMENT_INI, LIVEBACKEND_DATA_DIR=folder)
        assert result.exit_code == 1
        assert f"  data.dir: {folder} is not writable\n" in result.stderr

    def test_invalid_addresses_are_reported_in_one_message(self, tmp_path: Path) -> None:
        ini = tmp_path / "live.ini"
        ini.write_text(DEVELOPMENT_INI.read_text().replace("port = 6543", "port = 99999", 1))
        for command in ("check-config", "serve"):
            result = run_command(
                command,
                ini,
                LIVEBACKEND_HTTP_PUBLIC_URL="http://0.0.0.0:6543",
                LIVEBACKEND_STREAMS_API_URL="ftp://x",
                LIVEBACKEND_METRICS_ADDRESS="127.0.0.1:99999",
                LIVEBACKEND_STREAMS_GATEWAY="",
                LIVEBACKEND_DATABASE_URL="mysql://live@127.0.0.1/live",
            )
            assert result.exit_code == 1
            for error in (
                "port: '99999' is not a port from 1 to 65535",
                "http.public_url: 0.0.0.0 is no address that clients can connect to",
                "streams.api_url: must begin with http:// or https://",
                "metrics.address: '99999' is not a port from 1 to 65535",
                "streams.gateway: is empty; set the dotted name of a gateway class",
                "database.url: must begin with postgresql://",
            ):
                assert f"  {error}" in result.stderr

    def test_unreachable_database_is_an_error(self) -> None:
        result = run_command(
            "check-config",
            DEVELOPMENT_INI,
            LIVEBACKEND_DATABASE_URL="postgresql://live@127.0.0.1:1/live",
        )
        assert result.exit_code == 1
        assert "  database.url: connection to server at" in result.stderr

    @pytest.mark.parametrize("name", ["pictures", "hashing"])
    def test_subfolder_of_the_data_folder_that_is_not_writable_is_reported(
        self, name: str, tmp_path: Path
    ) -> None:
        # A file in place of the folder: root can write to every folder.
        (tmp_path / name).touch()
        result = run_command("check-config", DEVELOPMENT_INI, LIVEBACKEND_DATA_DIR=str(tmp_path))
        assert result.exit_code == 1
        assert f"  data.dir: {tmp_path / name} is not writable\n" in result.stderr

    def test_too_few_database_connections_are_only_a_warning(
        self, database_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        result = run_command(
            "check-config",
            DEVELOPMENT_INI,
            LIVEBACKEND_DATABASE_URL=database_url,
            LIVEBACKEND_SERVER_WORKERS="64",
            LIVEBACKEND_DATABASE_CONNECTIONS="100",
        )
        assert (result.exit_code, result.stdout) == (0, "the settings are valid\n")
        assert "this server can open 6784 database connections" in caplog.text

    def test_boolean_settings_accept_yes_and_true(
        self, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        empty_database_url = new_database(f"empty_{worker_id}")
        for value, exit_code in (("yes", 0), ("True", 0), ("false", 1)):
            environment = {
                "LIVEBACKEND_DATABASE_URL": empty_database_url,
                "LIVEBACKEND_DATABASE_MIGRATE": value,
            }
            assert (
                run_command("check-config", DEVELOPMENT_INI, **environment).exit_code == exit_code
            )

    def test_missing_ini_file_exits_with_2(self, tmp_path: Path) -> None:
        assert run_command("check-config", tmp_path / "no.ini").exit_code == 2
