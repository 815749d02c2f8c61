"""Metrics of one process, their sums over processes, and the Grafana dashboard."""

import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from errno import ENOSPC
from pathlib import Path
from threading import Event
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry, values
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from livebackend.config.errors import SettingsError
from livebackend.core.running_work import RunningWork
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.database.engine import Database
from livebackend.development.sms import DevelopmentSms
from livebackend.gateways.events.protocol import EngineStatus, EventEngine, EventsFailed
from livebackend.gateways.payments.protocol import Order, PaymentFailed, PaymentGateway
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway
from livebackend.gateways.streams import StreamGateway
from livebackend.monitoring import metrics_server
from livebackend.monitoring.event_engine_collector import EventEngineCollector
from livebackend.monitoring.metrics import (
    GATEWAY_CALLS,
    DiskSpaceCollector,
    LiveRoomsCollector,
    Metrics,
    OutboxCollector,
)
from livebackend.monitoring.metrics_files import MetricsFiles
from livebackend.monitoring.metrics_server import MetricsServer
from tests.support.api import App, UserClient
from tests.support.application import DEVELOPMENT_INI, PRODUCTION_INI
from tests.support.fake_gateways import FailingSms, FakePayments
from tests.support.servers import free_port, hardened_settings, running_server

PHONE = "13800000001"
STATUS = EngineStatus(5, 4, 3, 2_000, 16_000)
# The metrics of the event engine: whether it responds, and the fields of its status.
ENGINE_METRICS = [
    f"livebackend_events_{name}"
    for name in (
        *("engine_up", "subscribers", "channels", "stored"),
        *("engine_memory_bytes", "engine_max_memory_bytes"),
    )
]


def metric_value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"livebackend_{name}", labels)


class TestOneProcess:
    def test_instrumented_sms_gateway_is_timed_and_keeps_its_attributes(self) -> None:
        metrics = Metrics()
        sms = metrics.instrument("sms", DevelopmentSms())
        failing_sms = metrics.instrument("sms", FailingSms())
        sms.send(PHONE, "0042")
        with pytest.raises(SmsFailed):
            failing_sms.send(PHONE, "0042")
        assert sms.sent[0].code == "0042"
        for outcome in ("done", "failed"):
            labels = {"gateway": "sms", "method": "send", "outcome": outcome}
            assert metric_value(metrics, "gateway_request_duration_seconds_count", **labels) == 1

    def test_payment_gateway_is_timed_by_method(self) -> None:
        metrics = Metrics()
        payments = metrics.instrument("payments", FakePayments("", key=b"", clock=time.time))
        order = Order("a" * 32, 5000, "50 coins")
        payments.place(order)
        payments.query(order)
        payments.refund(order, reason="x")
        payments.close(order)
        with pytest.raises(PaymentFailed):
            payments.bill(date(2026, 10, 3))
        outcomes = {
            "place": "done",
            "query": "done",
            "refund": "done",
            "close": "done",
            "bill": "failed",
        }
        for method, outcome in outcomes.items():
            labels = {"gateway": "payments", "method": method, "outcome": outcome}
            assert metric_value(metrics, "gateway_request_duration_seconds_count", **labels) == 1

    def test_payment_gateway_of_the_server_is_timed(
        self, new_app: Callable[..., App], ann: UserClient
    ) -> None:
        gateway = "tests.support.fake_gateways.FakePayments"
        app = new_app(DEVELOPMENT_INI, coins__refill="order", payments__gateway=gateway)
        labels = {"gateway": "payments", "method": "place", "outcome": "done"}
        metrics: Metrics = app.registry.services.metrics
        count_before = (
            metric_value(metrics, "gateway_request_duration_seconds_count", **labels) or 0
        )
        assert ann.with_app(app).refill("10").result == "0000"
        assert (
            metric_value(metrics, "gateway_request_duration_seconds_count", **labels)
            == count_before + 1
        )

    def test_database_connections_in_use_are_counted(self, database_url: str) -> None:
        metrics, database = Metrics(), Database(database_url, pool_size=3)
        metrics.observe_pool(database.engine, size=3)
        assert metric_value(metrics, "database_connections") == 3
        with database.engine.connect(), database.engine.connect():
            metrics.refresh()
            assert metric_value(metrics, "database_connections_in_use") == 2
        metrics.refresh()
        assert metric_value(metrics, "database_connections_in_use") == 0
        database.close()

    def test_failed_connections_are_not_counted_as_in_use(self) -> None:
        metrics, unreachable = Metrics(), Database("postgresql+psycopg2://x@127.0.0.1:1/x")
        metrics.observe_pool(unreachable.engine, size=10)
        for _ in range(3):
            with pytest.raises(OperationalError):
                unreachable.engine.connect()
        metrics.refresh()
        assert metric_value(metrics, "database_connections_in_use") == 0

    def test_ledger_batches_and_queue_length_are_counted(self, app: App, ann: UserClient) -> None:
        metrics: Metrics = app.registry.services.metrics
        count_before = metric_value(metrics, "ledger_batch_transfers_sum") or 0
        assert [ann.refill("10").result for _ in range(3)] == ["0000"] * 3
        assert metric_value(metrics, "ledger_batch_transfers_sum") == count_before + 3
        assert metric_value(metrics, "ledger_queue_length") == 0

    def test_live_rooms_are_not_exported_while_the_database_is_unreachable(self) -> None:
        unreachable = Database("postgresql+psycopg2://x@127.0.0.1:1/x")
        registry = CollectorRegistry()
        registry.register(LiveRoomsCollector(lambda: unreachable.run(lambda _: 1)))
        assert list(registry.collect()) == []

    def test_status_of_the_event_engine_is_exported(self) -> None:
        registry = CollectorRegistry()
        registry.register(EventEngineCollector(lambda: STATUS))
        values = {name: registry.get_sample_value(name) for name in ENGINE_METRICS}
        assert values == dict(zip(ENGINE_METRICS, (1, *STATUS), strict=True))

    def test_event_engine_that_is_unavailable_is_exported_and_logged_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> EngineStatus:
            raise EventsFailed("unreachable")

        registry = CollectorRegistry()
        registry.register(EventEngineCollector(fail))
        for _ in range(2):
            (up,) = registry.collect()
            assert [(sample.name, sample.value) for sample in up.samples] == [
                ("livebackend_events_engine_up", 0)
            ]
        assert caplog.text.count("does not report its status: unreachable") == 1

    def test_free_disk_space_is_exported(self, tmp_path: Path) -> None:
        registry = CollectorRegistry()
        registry.register(DiskSpaceCollector(tmp_path))
        free_bytes = registry.get_sample_value("livebackend_data_disk_free_bytes")
        assert free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
        registry = CollectorRegistry()
        registry.register(DiskSpaceCollector(tmp_path / "missing"))
        assert list(registry.collect()) == []


def scrape(port: int) -> dict[tuple[str, ...], float]:
    """Return all metric values by name and labels; empty if no process listens."""
    try:
        text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        return {}
    assert PHONE not in text
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_for_value(
    port: int, name: tuple[str, ...], expected: float
) -> dict[tuple[str, ...], float]:
    deadline = time.monotonic() + 15
    while (values := scrape(port)).get(name) != expected:
        assert time.monotonic() < deadline, {name: values.get(name)}
        time.sleep(0.05)
    return values


CODES_SENT = ("livebackend_request_duration_seconds_count", "send_code", "0000")
WORKER_PROCESSES = ("livebackend_worker_processes",)


@pytest.mark.processes
def test_metrics_are_summed_over_processes_and_survive_a_killed_process(
    database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    settings = {**hardened_settings(database_url), "metrics.address": f"127.0.0.1:{port}"}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running_server(PRODUCTION_INI, tmp_path, settings, pserve=True))
            for _ in range(2)
        ]
        for number, server in enumerate(servers, start=1):
            data = f"token=1380000000{number}".encode()
            urlopen(f"{server.address}/register", data=data, timeout=10).read()
        values = wait_for_value(port, CODES_SENT, 2)
        assert values[WORKER_PROCESSES] == 2
        assert values["livebackend_live_rooms",] == 0
        assert values["livebackend_data_disk_free_bytes",] > 0
        assert (
            values["livebackend_gateway_request_duration_seconds_count", "sms", "send", "done"] == 2
        )
        # The first server listens on the metrics address. After it is killed, the second server
        # listens on this address and reports the counts of both servers.
        os.kill(servers[0].pid, signal.SIGKILL)
        os.waitpid(servers[0].pid, 0)
        values = wait_for_value(port, WORKER_PROCESSES, 1)
        assert values[CODES_SENT] == 2


@pytest.mark.processes
def test_server_without_a_metrics_address_opens_no_metrics_port(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"database.url": database_url, "metrics.address": ""}
    with running_server(DEVELOPMENT_INI, tmp_path, settings, pserve=True) as server:
        tcp_table = Path(f"/proc/{server.pid}/net/tcp").read_text()
        descriptors = list(Path(f"/proc/{server.pid}/fd").iterdir())
        open_files = {str(file.readlink()) for file in descriptors if file.is_symlink()}
        rows = [line.split() for line in tcp_table.splitlines()[1:]]
        listening_sockets = [
            row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in open_files
        ]
        assert len(listening_sockets) == 1


def test_each_period_of_failed_writes_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    results = [ENOSPC, ENOSPC, None, ENOSPC, ENOSPC, None]
    ended = Event()

    def write(_: MetricsFiles) -> None:
        if not results:
            ended.set()
        elif error := results.pop(0):
            raise OSError(error, "No space left on device")

    # The metrics server changes these; the test restores them.
    for name in ("ValueClass", "MmapedDict"):
        monkeypatch.setattr(values, name, getattr(values, name))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(metrics_server, "INTERVAL_S", 0.01)
    monkeypatch.setattr(MetricsFiles, "write", write)
    server = MetricsServer(f"127.0.0.1:{free_port()}")
    server.start(refresh=lambda: None)
    assert ended.wait(10)
    server.close()
    assert caplog.text.count("cannot be written, some metrics are out of date") == 2


def test_metrics_folder_of_another_user_is_a_settings_error(
    monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    port = free_port()
    (tmp_path / f"livebackend-metrics-{os.geteuid()}-{port}").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="is not a folder that the current user owns"):
        MetricsServer(f"127.0.0.1:{port}")


def exported_labels() -> dict[str, set[str]]:
    """Return the labels of each exported metric by its name."""
    metrics = Metrics()
    metrics.observe_request(operation="x", result="0000", status=500, seconds=1)
    metrics.observe_batch(1)
    metrics.observe_threads([SupervisedThread("x", lambda: None)], {"x": RunningWork()})
    metrics.instrument("sms", DevelopmentSms()).send(PHONE, "0042")
    metrics.registry.register(LiveRoomsCollector(lambda: 1))
    metrics.registry.register(OutboxCollector(lambda: (1, 0.5)))
    metrics.registry.register(EventEngineCollector(lambda: STATUS))
    metrics.registry.register(DiskSpaceCollector(Path()))
    metrics.count_published({"x": 1})
    metrics.count_dropped({"x": 1})
    metrics.count_event_connection("accepted")
    samples = [sample for metric in metrics.registry.collect() for sample in metric.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def check_query(query: str) -> None:
    """Check that every metric of a PromQL expression, and every label, is exported."""
    labels_by_metric = exported_labels()
    names = re.findall(r"\blivebackend_\w+", query)
    assert names, query
    assert set(names) <= labels_by_metric.keys(), query
    labels = {label for name in names for label in labels_by_metric[name]} | {"instance", "le"}
    grouping = re.search(r"by \(([\w, ]+)\)", query)
    assert not grouping or set(grouping[1].split(", ")) <= labels, query
    assert set(re.findall(r"(\w+)=~?\"", query)) <= labels, query


class TestDashboard:
    dashboard = json.loads(DEVELOPMENT_INI.parent.joinpath("deploy", "grafana.json").read_text())

    def queries(self) -> list[str]:
        panels = self.dashboard["panels"]
        return [target["expr"] for panel in panels for target in panel["targets"]]

    def test_every_metric_of_the_dashboard_is_exported(self) -> None:
        for query in self.queries():
            check_query(query)

    def test_every_metric_is_on_the_dashboard(self) -> None:
        queries = " ".join(self.queries())
        metrics = Metrics()
        metrics.registry.register(EventEngineCollector(lambda: STATUS))
        names = [metric.name for metric in metrics.registry.collect()]
        assert [name for name in names if name not in queries] == []

    def test_panels_do_not_overlap(self) -> None:
        occupied_cells: set[tuple[int, int]] = set()
        for panel in self.dashboard["panels"]:
            grid = panel["gridPos"]
            panel_cells = {
                (x, y)
                for x in range(grid["x"], grid["x"] + grid["w"])
                for y in range(grid["y"], grid["y"] + grid["h"])
            }
            assert not panel_cells & occupied_cells, panel["title"]
            assert max(x for x, _ in panel_cells) < 24
            occupied_cells |= panel_cells


class TestAlerts:
    folder = DEVELOPMENT_INI.parent
    groups = yaml.safe_load((folder / "deploy/prometheus-alerts.yaml").read_text())["groups"]
    rules = tuple(rule for group in groups for rule in group["rules"])

    @pytest.mark.parametrize("rule", rules, ids=lambda rule: rule["alert"])
    def test_alert_has_exported_metrics_a_severity_and_a_remedy(self, rule: dict[str, Any]) -> None:
        check_query(rule["expr"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert f"| `{rule['alert']}` |" in (self.folder / "docs/troubleshooting.md").read_text()

    def test_names_of_alerts_are_unique(self) -> None:
        names = [rule["alert"] for rule in self.rules]
        assert len(set(names)) == len(names)


def test_every_gateway_call_to_a_provider_is_timed() -> None:
    methods_without_provider_call = {"verify_notification", "publish_url"}
    methods = {
        name
        for protocol in (SmsGateway, StreamGateway, PaymentGateway, EventEngine)
        for name, member in vars(protocol).items()
        if callable(member) and not name.startswith("_")
    }
    assert methods - methods_without_provider_call == GATEWAY_CALLS
