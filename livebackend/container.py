"""The services: objects that are built once per process and used by every request."""

import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings
from livebackend.core.cpu_count import available_cpus
from livebackend.core.private_files import make_private_folder
from livebackend.core.running_work import RunningWork
from livebackend.core.signing import derived_key
from livebackend.core.supervised_thread import SupervisedThread
from livebackend.database.call_deadlines import deadlines_thread
from livebackend.database.engine import Database
from livebackend.database.rate_limit_counters import RateLimitCounters
from livebackend.development.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from livebackend.events.declarations import EVENTS
from livebackend.events.outbox import Outbox, outbox_size
from livebackend.events.outbox_limits import OutboxLimits
from livebackend.events.relay import Relay
from livebackend.events.tickets import EventTickets
from livebackend.gateways.events.protocol import ObservableEngine
from livebackend.gateways.http_client import running_calls
from livebackend.gateways.loader import Gateways, load_gateways, load_usable_gateways
from livebackend.gateways.qiniu import QiniuCallbackVerifier
from livebackend.gateways.sms.protocol import SmsGateway
from livebackend.housekeeping.periodic_tasks import HousekeepingTasks, PeriodicTasks
from livebackend.ledger.batch_writer import LedgerBatchWriter
from livebackend.ledger.history import CoinHistory
from livebackend.ledger.reversals import Reversals
from livebackend.monitoring.database_gate import DatabaseGate
from livebackend.monitoring.event_check import EventCheck
from livebackend.monitoring.event_engine_collector import EventEngineCollector
from livebackend.monitoring.health_checks import CHECK_TIMEOUT_S
from livebackend.monitoring.log_queue import log_writer_threads
from livebackend.monitoring.metrics import (
    DiskSpaceCollector,
    LiveRoomsCollector,
    Metrics,
    OutboxCollector,
)
from livebackend.monitoring.metrics_server import MetricsServer
from livebackend.monitoring.startup_checks import database_errors, folder_errors
from livebackend.services.accounts import Accounts
from livebackend.services.authentication import Authentication
from livebackend.services.avatars import Avatars
from livebackend.services.code_verifiers import CodeHasher, SignedTicketVerifier
from livebackend.services.event_streams import EventStreams
from livebackend.services.friends import Friends
from livebackend.services.gifts import Gifts
from livebackend.services.kept_blocks import KeptBlocks
from livebackend.services.lists import Lists
from livebackend.services.live_room_list import LiveRooms
from livebackend.services.login_addresses import LoginAddresses
from livebackend.services.login_tokens import LoginTokens
from livebackend.services.machine_semaphore import MachineSemaphore
from livebackend.services.operator_rooms import count_open_rooms
from livebackend.services.password_hashing import PasswordHasher, PasswordHashing
from livebackend.services.payment_orders import PaymentOrders
from livebackend.services.payment_reconciliation import PaymentReconciliation
from livebackend.services.payment_refunds import PaymentRefunds
from livebackend.services.plain_code_verifier import PlainCodeVerifier
from livebackend.services.publish_authorization import PublishAuthorization
from livebackend.services.rate_limits import RateLimiter
from livebackend.services.refills import Refills
from livebackend.services.retention import Retention
from livebackend.services.rooms import Rooms
from livebackend.services.sms_queue import SmsQueue
from livebackend.services.stream_callbacks import StreamCallbacks
from livebackend.services.stream_monitor import StreamMonitor
from livebackend.services.verification_codes import VerificationCodes
from livebackend.services.verified_phones import VerifiedPhones
from livebackend.storage.local_disk import OriginalPictureStore
from livebackend.storage.picture_decoder import PictureDecoder
from livebackend.storage.protocol import PictureStore
from livebackend.storage.reencoding import ReencodingPictureStore

# Size of the separate pool for health checks and metrics, which must work when the main pool is
# exhausted.
_PROBE_POOL_SIZE = 2
# The ledger writer has a connection of its own.
_LEDGER_CONNECTIONS = 1
# The relay of live events has a connection of its own.
_RELAY_CONNECTIONS = 1


@dataclass(frozen=True)
class Services:
    """All long-lived objects of a process. Call `start` and `close` once per process."""

    data_dir: Path
    metrics: Metrics
    database: Database
    # The same database as `database`, with a separate pool for health checks and metrics.
    probe_database: Database
    database_gate: DatabaseGate
    gateways: Gateways
    ledger_writer: LedgerBatchWriter
    outbox: Outbox
    login_tokens: LoginTokens
    rate_limits: RateLimiter
    password_hashing: PasswordHashing
    authentication: Authentication
    verification_codes: VerificationCodes
    sms_queue: SmsQueue
    accounts: Accounts
    picture_decoder: PictureDecoder
    avatars: Avatars
    friends: Friends
    lists: Lists
    live_rooms: LiveRooms
    rooms: Rooms
    stream_monitor: StreamMonitor
    stream_callbacks: StreamCallbacks
    publish_authorization: PublishAuthorization
    coin_history: CoinHistory
    reversals: Reversals
    gifts: Gifts
    refills: Refills
    payment_orders: PaymentOrders
    payment_refunds: PaymentRefunds
    payment_reconciliation: PaymentReconciliation
    retention: Retention
    periodic_tasks: PeriodicTasks
    # Both are None without `events.gateway`.
    relay: Relay | None = None
    event_streams: EventStreams | None = None
    # None without `metrics.address`.
    metrics_server: MetricsServer | None = None
    running_requests: RunningWork = field(default_factory=RunningWork)

    @property
    def threads(self) -> list[SupervisedThread]:
        """The background threads."""
        threads = [
            self.database_gate.thread,
            deadlines_thread,
            *log_writer_threads(),
            self.ledger_writer.thread,
            self.periodic_tasks.thread,
            *self.sms_queue.threads,
        ]
        if self.relay:
            threads.append(self.relay.thread)
        if self.database.server_thread:
            threads.append(self.database.server_thread)
        if self.metrics_server:
            threads.append(self.metrics_server.thread)
        if self.gateways.child_process_engine:
            threads.append(self.gateways.child_process_engine.server_thread)
        return threads

    @property
    def running_work(self) -> dict[str, RunningWork]:
        """The work of other threads that runs now."""
        return {"request": self.running_requests, "provider call": running_calls}

    def start(self) -> None:
        """Start the background threads.

        Housekeeping and the relay start as soon as the database is usable. Call this method after
        the last fork.
        """
        self.metrics.observe_threads(self.threads, self.running_work)
        if self.gateways.child_process_engine:
            self.gateways.child_process_engine.start_server()
        self.database_gate.start(self._start_database_threads)
        if self.metrics_server:
            probe_database = self.probe_database
            collectors = [
                LiveRoomsCollector(lambda: probe_database.run(count_open_rooms)),
                DiskSpaceCollector(self.data_dir),
            ]
            if self.relay:
                collectors.append(OutboxCollector(lambda: probe_database.run(outbox_size)))
            if isinstance(self.gateways.events, ObservableEngine):
                collectors.append(EventEngineCollector(self.gateways.events.status))
            self.metrics_server.start(*collectors, refresh=self.metrics.refresh)

    def _start_database_threads(self) -> None:
        self.periodic_tasks.start()
        if self.relay:
            self.relay.start()

    def stop_waiting(self) -> None:
        """Reject requests that wait to hash a password; called when the process stops."""
        self.password_hashing.stop()

    def close(self) -> None:
        """Finish the queued codes and transfers, release leases and close connections."""
        self.database_gate.close()
        self.sms_queue.close()
        self.periodic_tasks.close()
        self.picture_decoder.close()
        self.ledger_writer.close()
        if self.relay:
            self.relay.close()
        if self.gateways.child_process_engine:
            self.gateways.child_process_engine.close_server()
        if self.metrics_server:
            self.metrics_server.close()
        self.rate_limits.close()
        self.probe_database.close()
        self.database.close()


class CheckedSettings(NamedTuple):
    """Valid settings, and the gateways that they name."""

    settings: Settings
    gateways: Gateways


def checked_settings(
    ini: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    requires_database: bool = False,
) -> CheckedSettings:
    """Return the validated settings of an ini section, and their gateways.

    The environment overrides the section. Raises SettingsError with all errors of the settings, the
    gateways, the data folder and the database. An unreachable database is an error only with
    `requires_database`. An embedded database is not checked.
    """
    errors: list[str] = []
    settings = gateways = None
    try:
        settings = Settings.load(ini, environment)
        gateways = make_gateways(settings)
    except SettingsError as error:
        errors.extend(error.errors)
    raw_values = Settings.raw_values(ini, environment)
    url = raw_values.get("database.url", "embedded")
    if url != "embedded":
        errors.extend(
            database_errors(
                url,
                accepts_missing_migrations=settings is None or settings.database_migrate,
                accepts_unavailable=not requires_database,
            )
        )
    if "data.dir" in raw_values:
        errors.extend(folder_errors(Path(raw_values["data.dir"])))
    if settings is None or gateways is None or errors:
        raise SettingsError(*errors)
    return CheckedSettings(settings, gateways)


def make_gateways(settings: Settings) -> Gateways:
    """Return the gateways that the settings name.

    Raises SettingsError that names every gateway that cannot be used.
    """
    return load_gateways(
        settings,
        sms=settings.sms_gateway,
        streams=settings.streams_gateway,
        payments=settings.payments_gateway.split(),
        events=settings.events_gateway,
    )


def make_usable_gateways(settings: Settings) -> Gateways:
    """Return gateways for a command that works without them, and without payment gateways."""
    return load_usable_gateways(
        settings,
        sms=settings.sms_gateway,
        streams=settings.streams_gateway,
        events=settings.events_gateway,
    )


def worker_count(settings: Settings) -> int:
    """Return the number of worker processes of a server."""
    return settings.server_workers or available_cpus()


def required_connections(settings: Settings) -> int:
    """Return the maximum number of database connections of a server."""
    connections_per_worker = (
        settings.database_connections
        + settings.database_rate_limit_connections
        + _PROBE_POOL_SIZE
        + _LEDGER_CONNECTIONS
        + (_RELAY_CONNECTIONS if settings.events_gateway else 0)
    )
    return worker_count(settings) * connections_per_worker


def make_event_check(settings: Settings, gateways: Gateways) -> EventCheck | None:
    """Return the check of live events; None without `events.gateway`."""
    if gateways.events is None:
        return None
    tickets = EventTickets(settings.signing_secrets, clock=time.time)
    url = _event_stream_url(settings, gateways)
    return EventCheck(
        gateways.events,
        is_child_process=gateways.child_process_engine is not None,
        stream_url=lambda: f"{url}?ticket={tickets.issue_probe()}",
    )


def open_database(settings: Settings) -> Database:
    """Return the database of `database.url`; `embedded` starts a PostgreSQL server.

    Raises SettingsError if the embedded PostgreSQL cannot start.
    """
    url = settings.database_url.get_secret_value()
    if url != "embedded":
        return Database(url, pool_size=settings.database_connections)
    embedded_postgres = EmbeddedPostgres(settings.data_dir / "postgres")
    try:
        url = embedded_postgres.start()
    except EmbeddedPostgresError as error:
        raise SettingsError(f"database.url: {error}") from None
    embedded_postgres.restart_if_killed()
    return Database(
        url,
        pool_size=settings.database_connections,
        on_close=embedded_postgres.close,
        server_thread=embedded_postgres.restart_thread,
    )


def start_services(settings: Settings, gateways: Gateways) -> Services:
    """Return the services of a worker.

    Runs pending database migrations if `database.migrate` is set. Raises SettingsError if the
    database is reachable and cannot be used.
    """
    database = open_database(settings)
    # The metrics server is created before the first metric, because it sets the folder in which the
    # workers share metrics.
    metrics_server = MetricsServer(settings.metrics_address) if settings.metrics_address else None
    services = build_services(settings, database, gateways, metrics_server)
    services.database_gate.try_to_open()
    return services


def build_services(
    settings: Settings,
    database: Database,
    gateways: Gateways,
    metrics_server: MetricsServer | None = None,
) -> Services:
    """Return all services without starting them."""
    metrics = Metrics()
    metrics.observe_pool(database.engine, size=settings.database_connections)
    sms = metrics.instrument("sms", gateways.sms)
    stream_gateway = metrics.instrument("streams", gateways.streams)
    payment_gateways = [metrics.instrument("payments", gateway) for gateway in gateways.payments]
    rng = random.SystemRandom()
    login_tokens = LoginTokens(settings.signing_secrets, clock=time.time)
    rate_limits = RateLimiter(
        RateLimitCounters(
            database.with_own_pool(settings.database_rate_limit_connections, durable=False)
        ),
        settings.rate_limits,
        key=derived_key(settings.signing_secrets[0], "rate limits"),
    )
    password_hashing = _password_hashing(settings, rate_limits)
    login_addresses = LoginAddresses(
        derived_key(settings.passwords_pepper.get_secret_value(), "login addresses"),
        enabled=bool(settings.limits_login_new_addresses),
    )
    picture_decoder = PictureDecoder(
        max_cpu_s=settings.pictures_max_cpu_s,
        max_concurrent=settings.pictures_max_concurrent,
        # As for password hashing, so that the other threads can process other requests.
        max_callers=settings.server_threads * 3 // 4,
    )
    avatars = Avatars(
        database,
        _picture_store(settings, picture_decoder),
        max_bytes=settings.pictures_max_bytes,
        unused_ttl=timedelta(seconds=settings.pictures_unused_ttl_s),
    )
    kept_blocks = KeptBlocks(
        database,
        # The pepper never changes, so the digests stay valid.
        key=derived_key(settings.passwords_pepper.get_secret_value(), "blocked phones"),
        retention=timedelta(days=settings.retention_blocks_days),
    )
    code_hasher = CodeHasher([derived_key(secret, "codes") for secret in settings.signing_secrets])
    sms_queue = SmsQueue(sms)
    verification_codes = _verification_codes(
        settings, database, sms, sms_queue, rate_limits=rate_limits, hasher=code_hasher, rng=rng
    )
    outbox = Outbox(enabled=gateways.events is not None)
    stream_monitor = StreamMonitor(
        database,
        stream_gateway,
        outbox,
        offline_timeout=timedelta(seconds=settings.streams_offline_timeout_s),
    )
    ledger_writer = LedgerBatchWriter(
        database,
        writer_number=settings.ledger_writer if settings.ledger_writer >= 0 else None,
        metrics=metrics,
        writes_events=outbox.enabled,
    )
    payment_orders = PaymentOrders(database, ledger_writer, payment_gateways)
    payment_refunds = PaymentRefunds(database, ledger_writer, payment_orders)
    payment_reconciliation = PaymentReconciliation(
        database,
        payment_orders,
        payment_refunds,
        order_ttl=timedelta(seconds=settings.payments_order_ttl_s),
    )
    retention = Retention(
        database,
        rooms=timedelta(days=settings.retention_rooms_days),
        unpaid_orders=timedelta(days=settings.retention_unpaid_orders_days),
        messages=timedelta(days=settings.retention_messages_days),
        codes=timedelta(days=settings.retention_codes_days),
    )
    return Services(
        data_dir=settings.data_dir,
        metrics=metrics,
        metrics_server=metrics_server,
        database=database,
        probe_database=database.with_own_pool(_PROBE_POOL_SIZE, call_timeout_s=CHECK_TIMEOUT_S),
        database_gate=DatabaseGate(database, migrates=settings.database_migrate),
        gateways=gateways,
        ledger_writer=ledger_writer,
        outbox=outbox,
        relay=_relay(settings, database, gateways, metrics),
        login_tokens=login_tokens,
        rate_limits=rate_limits,
        password_hashing=password_hashing,
        authentication=Authentication(database, password_hashing, rate_limits, login_addresses),
        verification_codes=verification_codes,
        sms_queue=sms_queue,
        accounts=Accounts(
            database,
            password_hashing,
            avatars,
            verification_codes,
            outbox,
            verified_phones=VerifiedPhones(database, rate_limits, code_hasher),
            kept_blocks=kept_blocks,
            login_addresses=login_addresses,
            require_verified_phone=settings.register_verified_phone == "required",
            require_uploaded_pictures=settings.pictures_require_uploaded,
        ),
        picture_decoder=picture_decoder,
        avatars=avatars,
        friends=Friends(outbox, friends_max=settings.friends_max),
        lists=Lists(friends_max=settings.friends_max, messages_max=settings.messages_max),
        live_rooms=LiveRooms(),
        rooms=Rooms(
            database,
            stream_gateway,
            stream_monitor,
            outbox,
            rng=rng,
            stream_name_key=derived_key(settings.signing_secrets[0], "streams"),
        ),
        stream_monitor=stream_monitor,
        stream_callbacks=StreamCallbacks(
            stream_monitor,
            QiniuCallbackVerifier(
                settings.http_public_url,
                access_key=settings.qiniu_access_key,
                secret_key=settings.qiniu_secret_key.get_secret_value(),
            ),
        ),
        publish_authorization=PublishAuthorization(
            database,
            stream_gateway,
            hub=settings.streams_hub,
            secret=settings.streams_hook_secret.get_secret_value(),
        ),
        coin_history=CoinHistory(),
        reversals=Reversals(database, ledger_writer),
        gifts=Gifts(database, ledger_writer, rate_limits),
        refills=Refills(
            database,
            ledger_writer,
            payment_orders,
            rate_limits,
            mode=settings.coins_refill,
            coins_per_yuan=settings.coins_per_yuan,
        ),
        payment_orders=payment_orders,
        payment_refunds=payment_refunds,
        payment_reconciliation=payment_reconciliation,
        retention=retention,
        periodic_tasks=PeriodicTasks(
            database,
            stream_monitor,
            HousekeepingTasks(
                reconcile_orders=payment_reconciliation.run,
                delete_unused_pictures=avatars.delete_unused,
                delete_expired_rate_limits=rate_limits.delete_expired,
                delete_old_rows=retention.delete_old_rows,
                delete_expired_blocks=kept_blocks.delete_expired,
            ),
            holder=secrets.token_hex(16),
            period_s=settings.streams_check_interval_s,
        ),
        event_streams=_event_streams(settings, database, gateways, login_tokens, rate_limits),
    )


def _relay(
    settings: Settings, database: Database, gateways: Gateways, metrics: Metrics
) -> Relay | None:
    if gateways.events is None:
        return None
    # An alert on an increase does not detect the first value of a counter.
    metrics.count_dropped(dict.fromkeys(EVENTS, 0))
    return Relay(
        database,
        metrics.instrument("events", gateways.events),
        holder=secrets.token_hex(16),
        limits=OutboxLimits(
            max_rows=settings.events_outbox_max_rows,
            max_age=timedelta(seconds=settings.events_outbox_max_age_s),
        ),
        metrics=metrics,
    )


def _password_hashing(settings: Settings, rate_limits: RateLimiter) -> PasswordHashing:
    return PasswordHashing(
        PasswordHasher(settings.passwords_pepper.get_secret_value(), cost=settings.passwords_cost),
        MachineSemaphore(
            make_private_folder(settings.data_dir / "hashing"),
            settings.passwords_max_concurrent or max(1, available_cpus() - 1),
        ),
        rate_limits,
        # Requests that hash a password occupy at most three quarters of the threads, so that the
        # other threads can process other requests.
        max_callers=settings.server_threads * 3 // 4,
        queue_timeout_s=settings.passwords_queue_timeout_s,
        reject_common=settings.passwords_reject_common,
    )


def _verification_codes(
    settings: Settings,
    database: Database,
    sms: SmsGateway,
    sms_queue: SmsQueue,
    *,
    rate_limits: RateLimiter,
    hasher: CodeHasher,
    rng: random.Random,
) -> VerificationCodes:
    returns_plain_codes = settings.codes_reply == "plain"
    return VerificationCodes(
        database,
        sms,
        sms_queue,
        rate_limits,
        verifier=PlainCodeVerifier(hasher)
        if returns_plain_codes
        else SignedTicketVerifier(settings.signing_secrets, hasher),
        hasher=hasher,
        rng=rng,
        ttl=timedelta(seconds=settings.codes_ttl_s),
    )


def _event_streams(
    settings: Settings,
    database: Database,
    gateways: Gateways,
    login_tokens: LoginTokens,
    rate_limits: RateLimiter,
) -> EventStreams | None:
    if gateways.events is None:
        return None
    return EventStreams(
        database,
        login_tokens,
        EventTickets(settings.signing_secrets, clock=time.time),
        rate_limits,
        url=_event_stream_url(settings, gateways),
        replay_s=settings.events_replay_s,
        clock=time.time,
    )


def _event_stream_url(settings: Settings, gateways: Gateways) -> str:
    """Return the URL at which clients open event streams."""
    default_url = settings.default_event_stream_url
    if gateways.child_process_engine:
        default_url = gateways.child_process_engine.stream_url
    return settings.events_public_url or default_url


def _picture_store(settings: Settings, decoder: PictureDecoder) -> PictureStore:
    picture_folder = make_private_folder(settings.data_dir / "pictures")
    min_free_bytes = settings.pictures_min_free_disk_bytes
    if settings.pictures_mode == "original":
        return OriginalPictureStore(picture_folder, min_free_bytes=min_free_bytes)
    return ReencodingPictureStore(
        picture_folder, decoder, public_url=settings.http_public_url, min_free_bytes=min_free_bytes
    )
