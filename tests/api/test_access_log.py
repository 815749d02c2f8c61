"""Tests of the access log and the request metrics."""

import json
import re
import time
from collections.abc import Callable, Iterator
from urllib.request import urlopen

import pytest
from webtest import TestApp

from livebackend.container import Services
from tests.support.api import ApiClient, App, UserClient
from tests.support.application import PRODUCTION_INI
from tests.support.database_state import DatabaseState
from tests.support.servers import Server, hardened_settings, running_server


def request_counts(app: App) -> dict[tuple[str, str], float]:
    """Read the metrics; return the number of requests by operation and result code."""
    request_count_by_result = {}
    for metric in app.registry.services.metrics.registry.collect():
        for sample in metric.samples:
            if sample.name == "livebackend_request_duration_seconds_count":
                request_count_by_result[sample.labels["operation"], sample.labels["result"]] = (
                    sample.value
                )
    return request_count_by_result


class TestAccessLog:
    @pytest.fixture(autouse=True)
    def _capture_access_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "livebackend.access")

    def test_access_log_record_has_the_documented_fields(
        self, ann: UserClient, database_state: DatabaseState, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.clear()
        ann.post("/friend", search="1", userId="13800000009")
        (record,) = caplog.records
        assert record.name == "livebackend.access"
        fields = record.fields  # type: ignore[attr-defined]
        duration_ms, client_hash = fields.pop("duration_ms"), fields.pop("client_hash")
        (account_id,) = (
            row["id"] for row in database_state.rows("accounts") if row["phone"] == ann.phone
        )
        assert fields == {
            "operation": "search",
            "result": "0007",
            "status": 200,
            "account": account_id,
        }
        assert 0 < duration_ms < 10_000
        assert re.fullmatch("[0-9a-f]{32}", client_hash)
        message = f"request search: result 0007, status 200, {duration_ms} ms"
        assert record.getMessage() == message

    def test_client_hash_identifies_the_client_address_without_containing_it(
        self, app: App, new_app: Callable[..., App], caplog: pytest.LogCaptureFixture
    ) -> None:
        def client_hash(app: App, address: str) -> str:
            TestApp(app).post("/log", extra_environ={"REMOTE_ADDR": address}, status="*")
            fields = caplog.records[-1].fields  # type: ignore[attr-defined]
            return str(fields["client_hash"])

        first_hash = client_hash(app, "203.0.113.7")
        assert first_hash == client_hash(app, "203.0.113.7") != client_hash(app, "203.0.113.8")
        # The hash is computed with a secret key. Without a key, a reader of the log could hash all
        # IPv4 addresses and compare the hashes.
        app_with_another_secret = new_app(secrets="another-secret-of-the-tests-long-enough")
        assert client_hash(app_with_another_secret, "203.0.113.7") != first_hash

    def test_request_to_an_unknown_path_is_logged_without_the_path(
        self, api: ApiClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.post("/13800000001/eyJ0eXAiOiJsb2dpbiJ9.c2lnbmF0dXJlLW9mLWl0")
        assert caplog.records[-1].getMessage().startswith("request none: result 0003, status 404, ")


class TestRequestMetrics:
    def test_health_check_is_not_counted(self, app: App) -> None:
        counts_before = request_counts(app)
        TestApp(app).get("/healthz")
        assert request_counts(app) == counts_before
        assert TestApp(app).post("/healthz", status="*").json["result"] == "0003"

    def test_each_request_is_counted_once_by_operation_and_result(
        self, app: App, ann: UserClient
    ) -> None:
        counts_before = request_counts(app)
        ann.post("/friend", search="1", userId=ann.phone)
        ann.post("/friend", search="1", userId="13800000009")
        ann.post("/friend", search="1", userId="13800000009")
        ann.post("/nowhere")
        counts_after = request_counts(app)
        increase_by_result = {
            key: counts_after[key] - counts_before.get(key, 0) for key in counts_after
        }
        assert {key: count for key, count in increase_by_result.items() if count} == {
            ("search", "0000"): 1,
            ("search", "0007"): 2,
            ("none", "0003"): 1,
        }

    def test_response_with_status_500_increments_the_error_counter(
        self, app: App, services: Services, ann: UserClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def error_count() -> float:
            labels = {"operation": "friendlist", "status": "500"}
            registry = app.registry.services.metrics.registry
            return registry.get_sample_value("livebackend_request_errors_total", labels) or 0.0

        count_before = error_count()
        monkeypatch.setattr(type(services.database), "run_autocommit", lambda *_, **__: 1 / 0)
        assert ann.post("/list", friendlist="1").status == 500
        assert error_count() == count_before + 1


@pytest.fixture(scope="module")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        PRODUCTION_INI, tmp_path_factory.mktemp("v"), hardened_settings(database_url)
    ) as server:
        yield server


@pytest.mark.processes
def test_production_log_has_one_json_object_per_line(server: Server) -> None:
    for _ in range(3):
        urlopen(f"{server.address}/register", data=b"token=13800000001", timeout=10).read()
    deadline = time.monotonic() + 5
    while (log := server.log.read_text()).count("send_code") < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    # pserve prints the first line before logging is configured.
    _, *lines = log.splitlines()
    records = [json.loads(line) for line in lines]
    access_records = [record for record in records if record["logger"] == "livebackend.access"]
    assert [record["operation"] for record in access_records] == ["send_code"] * 3
    assert len({record["request_id"] for record in access_records}) == 3
    assert all(len(record["request_id"]) == 32 for record in access_records)
