"""The backend of a live-streaming app: `main` puts it together."""

import os
import random
import time
from collections.abc import Mapping
from datetime import timedelta
from pkgutil import resolve_name
from typing import Any

from pyramid.config import Configurator

from livebackend.db import Database, open_database
from livebackend.gateways.pictures import PicturesAsSent
from livebackend.gateways.sms import SmsGateway
from livebackend.gateways.streams import StreamGateway
from livebackend.ledger_writer import LedgerWriter
from livebackend.migrate import check_migrated, migrate
from livebackend.request import House, Request
from livebackend.routes import bounds
from livebackend.security import LoginTokens
from livebackend.services.accounts import Accounts
from livebackend.services.codes import Codes
from livebackend.services.golden import Golden
from livebackend.services.passwords import Passwords
from livebackend.services.pictures import Pictures
from livebackend.services.rooms import Rooms
from livebackend.settings import Settings, SettingsError


def main(global_config: Mapping[str, Any], **ini: Any) -> Any:
    """The WSGI application. Its settings are the ini section, overridden by the environment.

    Ends the process with one message that names all faults, if the settings have any.
    """
    try:
        settings = Settings.load(ini, os.environ)
        database = open_database(settings)
        if settings.database_migrate:
            migrate(database)
        check_migrated(database)
        house = build(settings, database)
    except SettingsError as error:
        raise SystemExit(str(error)) from None

    config = Configurator(request_factory=Request)
    config.registry.house = house
    config.registry.bounds = bounds(settings)
    config.include("livebackend.operation")
    config.include("livebackend.routes")
    config.scan("livebackend.views")
    return config.make_wsgi_app()


def build(settings: Settings, database: Database) -> House:
    """Everything that outlives a request.

    Raises SettingsError for a gateway that is none.
    """
    sms: SmsGateway = _gateway("sms.gateway", settings, SmsGateway)
    streams: StreamGateway = _gateway("streams.gateway", settings, StreamGateway)
    dice, key = random.SystemRandom(), settings.secrets[0]
    passwords = Passwords(
        settings.passwords_pepper,
        cost=settings.passwords_cost,
        at_once=settings.passwords_at_once or max(1, (os.cpu_count() or 1) - 1),
        wait_s=settings.passwords_wait_s,
    )
    return House(
        settings=settings,
        database=database,
        sms=sms,
        login_tokens=LoginTokens(settings.secrets, clock=time.time),
        accounts=Accounts(
            database,
            passwords,
            verified_phone_required=settings.register_verified_phone == "required",
            only_our_pictures=settings.pictures_only_ours,
        ),
        codes=Codes(
            database, sms, random=dice, key=key, ttl=timedelta(seconds=settings.codes_ttl_s)
        ),
        rooms=Rooms(database, streams, random=dice, key=key),
        pictures=Pictures(
            database,
            PicturesAsSent(settings.var_dir / "pictures"),
            bytes_max=settings.pictures_bytes_max,
        ),
        golden=Golden(
            database,
            LedgerWriter(database, number=dice.randrange(16)),
            refill=settings.coins_refill,
            coins_per_yuan=settings.coins_per_yuan,
        ),
    )


def _gateway(name: str, settings: Settings, protocol: type) -> Any:
    dotted = getattr(settings, name.replace(".", "_"))
    try:
        gateway = resolve_name(dotted).from_settings(settings)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{name}: {dotted} can't be used: {error}") from None
    if not isinstance(gateway, protocol):
        raise SettingsError(f"{name}: {dotted} is no {protocol.__name__}")
    return gateway
