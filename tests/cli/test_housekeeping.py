"""`livebackend housekeeping` runs each housekeeping task once."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from webtest import Upload

from livebackend.database.engine import Database
from tests.support.api import ApiClient, UserClient
from tests.support.application import DEVELOPMENT_INI
from tests.support.commands import run_command
from tests.support.database_state import DatabaseState
from tests.support.servers import free_port


class TestHousekeeping:
    def run_housekeeping(self, url: str, **environment: str) -> Result:
        return run_command(
            "housekeeping", DEVELOPMENT_INI, LIVEBACKEND_DATABASE_URL=url, **environment
        )

    def test_housekeeping_closes_a_room_whose_opening_was_interrupted_by_a_crash(
        self, ann: UserClient, database: Database, database_url: str, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        with database.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rooms SET state = 'opening', started_at = now() - interval '1 minute'"
            )
        result = self.run_housekeeping(database_url)
        assert result.stdout == (
            "0 rooms checked, 1 closed, 1 streams disabled, 0 pictures deleted,"
            " 0 payment orders reconciled, 0 old rows deleted\n"
        ), result.stderr
        assert result.exit_code == 0
        assert database_state.rows("rooms")[0]["close_reason"] == "abandoned"
        assert self.run_housekeeping(database_url).stdout.startswith("0 rooms checked, 0 closed, 0")

    def test_housekeeping_deletes_pictures_that_no_account_uses(
        self, api: ApiClient, database_url: str, data_dir: Path, database_state: DatabaseState
    ) -> None:
        for n in range(3):
            api.post("/upload", img=Upload(f"{n}.png", b"picture", "image/png"))
        database_state.execute(
            "UPDATE pictures SET created_at = now() - interval '24 hours 1 second'"
        )
        result = self.run_housekeeping(database_url, LIVEBACKEND_DATA_DIR=str(data_dir))
        assert "3 pictures deleted" in result.stdout, result.stderr
        assert database_state.rows("pictures") == []
        assert list((data_dir / "pictures").rglob("*.*")) == []

    def test_failing_provider_is_reported_and_exits_with_1(
        self, ann: UserClient, database_url: str, database_state: DatabaseState
    ) -> None:
        ann.go_live()
        rooms_before = database_state.rows("rooms")
        result = self.run_housekeeping(
            database_url,
            LIVEBACKEND_STREAMS_GATEWAY="livebackend.gateways.streams.PiliV1",
            LIVEBACKEND_STREAMS_API_URL=f"http://127.0.0.1:{free_port()}",
            LIVEBACKEND_QINIU_ACCESS_KEY="ak",
            LIVEBACKEND_QINIU_SECRET_KEY="sk",
        )
        assert result.exit_code == 1
        assert "failed, see the log: the next round of housekeeping retries them" in result.stderr
        assert database_state.rows("rooms") == rooms_before

    def test_pending_migrations_are_reported(
        self, new_database: Callable[[str], str], worker_id: str
    ) -> None:
        result = self.run_housekeeping(new_database(f"housekeeping_{worker_id}"))
        assert result.exit_code == 1
        assert "run `livebackend migrate`" in result.stderr
