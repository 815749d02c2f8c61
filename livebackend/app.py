"""The server: `main` puts it together out of its settings."""

import atexit
import os
import random
import secrets
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pyramid.config import Configurator
from pyramid.events import NewRequest

from livebackend.check import checked_settings
from livebackend.db import Database, open_database
from livebackend.gateways import Gateways
from livebackend.gateways.pictures import PicturesAsSent, PictureStore
from livebackend.gateways.qiniu import QiniuCallbacks
from livebackend.gateways.re_encoded_pictures import PicturesReEncoded
from livebackend.gateways.sms import SmsGateway
from livebackend.health import Readiness, checks_of
from livebackend.ledger_writer import LedgerWriter
from livebackend.limits import Limits
from livebackend.metrics import LiveRooms, Metrics
from livebackend.metrics_listener import Listener
from livebackend.migrate import check_migrated, migrate
from livebackend.operation import operations
from livebackend.pages import make_pages
from livebackend.request import House, Request
from livebackend.routes import bounds
from livebackend.security import LoginTokens
from livebackend.services.accounts import Accounts
from livebackend.services.codes import Codes, Digests, TicketJudge
from livebackend.services.gifts import Gifts
from livebackend.services.logins import Logins
from livebackend.services.operator_rooms import count_live
from livebackend.services.passwords import Hasher, Passwords, Slots
from livebackend.services.payment_orders import PaymentOrders
from livebackend.services.payment_reconciliation import PaymentReconciliation
from livebackend.services.payment_refunds import PaymentRefunds
from livebackend.services.pictures import Pictures
from livebackend.services.plain_codes import PlainJudge
from livebackend.services.refills import Refills
from livebackend.services.rooms import Rooms
from livebackend.services.streams import Streams
from livebackend.settings import Settings, SettingsError, with_own_address
from livebackend.signing import derived_key
from livebackend.sweeper import Sweeper
from livebackend.transport import Peers

# Connections for those who watch: they see a pool that is used up, and do not wait for it.
_PROBES = 2


def main(global_config: Mapping[str, Any], **ini: Any) -> Any:
    """The WSGI application. Its settings are the ini section, overridden by the environment.

    Ends the process with one message that names all faults, if the settings have any.
    """
    try:
        checked = checked_settings(with_own_address(ini, global_config), os.environ)
        settings = checked.settings
        database = open_database(settings)
        if settings.database_migrate:
            migrate(database)
        check_migrated(database)
        listener = Listener(settings.metrics_listen) if settings.metrics_listen else None
        metrics = Metrics()
        house = build(settings, database, checked.gateways, metrics)
    except SettingsError as error:
        raise SystemExit(str(error)) from None

    # A server that is told to end answers its last calls first, and then ends like any program.
    atexit.register(house.close)
    if listener:
        listener.start(LiveRooms(lambda: house.probes.run(count_live)))
    config = Configurator(request_factory=Request)
    config.registry.house = house
    config.registry.bounds = bounds(settings)
    config.registry.peers = Peers(settings.trusted_proxies)
    config.registry.metrics = metrics
    config.registry.readiness = Readiness(checks_of(settings, house.probes))
    config.include("livebackend.transport")
    config.include("livebackend.watch")
    config.include("livebackend.operation")
    config.include("livebackend.routes")
    config.scan("livebackend.views")
    # Now the operations are known.
    config.commit()
    config.registry.pages = make_pages(operations(config.registry), settings)
    # With a process's first request: a thread that was there before a fork is not there after it.
    config.add_subscriber(lambda event: house.sweeper.start(), NewRequest)
    return config.make_wsgi_app()


def build(
    settings: Settings, database: Database, gateways: Gateways, metrics: Metrics | None = None
) -> House:
    """Everything that outlives a request, watched by `metrics`."""
    metrics = metrics or Metrics()
    metrics.watch_pool(database.engine, size=settings.database_connections)
    sms, provider, payment_gateways = gateways
    metrics.time_calls("sms", sms)
    metrics.time_calls("streams", provider)
    for gateway in payment_gateways:
        metrics.time_calls("payments", gateway)
    dice = random.SystemRandom()
    limits = Limits(database.beside(settings.limits_connections), settings.limits)
    passwords = _passwords(settings)
    pictures = Pictures(
        database,
        _picture_store(settings),
        bytes_max=settings.pictures_bytes_max,
        unclaimed=timedelta(seconds=settings.pictures_unclaimed_s),
    )
    codes = _codes(settings, database, sms, limits, dice)
    streams = Streams(database, provider, absent=timedelta(seconds=settings.streams_absent_s))
    writer = LedgerWriter(database, number=_writer_number(settings, dice), watch=metrics)
    orders = PaymentOrders(database, writer, payment_gateways)
    refunds = PaymentRefunds(database, writer, orders)
    reconciliation = PaymentReconciliation(
        database, orders, refunds, order_ttl=timedelta(seconds=settings.payments_order_ttl_s)
    )
    return House(
        settings=settings,
        database=database,
        probes=database.beside(_PROBES),
        writer=writer,
        sms=sms,
        login_tokens=LoginTokens(settings.signing_secrets, clock=time.time),
        limits=limits,
        passwords=passwords,
        accounts=Accounts(
            database,
            passwords,
            pictures,
            codes,
            verified_phone_required=settings.register_verified_phone == "required",
            only_our_pictures=settings.pictures_only_ours,
        ),
        logins=Logins(database, passwords, limits),
        codes=codes,
        rooms=Rooms(
            database,
            provider,
            streams,
            random=dice,
            key=derived_key(settings.signing_secrets[0], "streams"),
        ),
        provider=provider,
        streams=streams,
        sweeper=Sweeper(
            database,
            streams,
            [reconciliation.run, pictures.sweep, limits.sweep],
            holder=secrets.token_hex(16),
            period_s=settings.streams_sweep_s,
        ),
        callbacks=QiniuCallbacks(
            settings.http_url,
            access_key=settings.qiniu_access_key,
            secret_key=settings.qiniu_secret_key.get_secret_value(),
        ),
        pictures=pictures,
        gifts=Gifts(database, writer),
        refills=Refills(
            database,
            writer,
            orders,
            limits,
            mode=settings.coins_refill,
            coins_per_yuan=settings.coins_per_yuan,
        ),
        orders=orders,
        refunds=refunds,
        reconciliation=reconciliation,
    )


def _passwords(settings: Settings) -> Passwords:
    return Passwords(
        Hasher(settings.passwords_pepper.get_secret_value(), cost=settings.passwords_cost),
        Slots(
            settings.var_dir / "hashing",
            settings.passwords_at_once or max(1, (os.cpu_count() or 1) - 1),
        ),
        # A quarter of the threads neither hash nor wait, so that no crowd at the door holds up
        # those inside.
        callers_max=settings.server_threads * 3 // 4,
        wait_s=settings.passwords_wait_s,
        common_refused=settings.passwords_common_refused,
    )


def _codes(
    settings: Settings, database: Database, sms: SmsGateway, limits: Limits, dice: random.Random
) -> Codes:
    digests = Digests([derived_key(secret, "codes") for secret in settings.signing_secrets])
    plain = settings.codes_reply == "plain"
    return Codes(
        database,
        sms,
        limits,
        PlainJudge(digests) if plain else TicketJudge(settings.signing_secrets, digests),
        digests,
        random=dice,
        ttl=timedelta(seconds=settings.codes_ttl_s),
    )


def _writer_number(settings: Settings, dice: random.Random) -> int:
    return dice.randrange(16) if settings.ledger_writer < 0 else settings.ledger_writer


def _picture_store(settings: Settings) -> PictureStore:
    root, free = settings.var_dir / "pictures", settings.pictures_free_bytes_min
    if settings.pictures_keep == "as_sent":
        return PicturesAsSent(root, free_bytes_min=free)
    return PicturesReEncoded(root, url=settings.http_url, free_bytes_min=free)
