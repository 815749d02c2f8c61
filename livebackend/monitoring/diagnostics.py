"""Checks of an installation, with a remedy for each failure."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from livebackend.database.engine import Database
from livebackend.gateways.sms.protocol import CheckableSms, SmsFailed, SmsGateway
from livebackend.gateways.streams import StreamFailed, StreamGateway, StreamReference
from livebackend.monitoring.event_check import EventCheck
from livebackend.monitoring.health_checks import (
    CLOCK_REMEDY,
    CheckFailed,
    check_connection_limit,
    check_database,
    check_disk,
    check_migrations,
    database_ahead_s,
    describe_skew,
)

_TIMEOUT_S = 4


@dataclass(frozen=True)
class CheckResult:
    """The result of a check. `remedy` is None if the check passed."""

    check: str
    message: str
    remedy: str | None = None

    @property
    def passed(self) -> bool:
        return self.remedy is None


@dataclass(frozen=True)
class Diagnostics:
    """Checks everything that a livebackend server needs.

    `clock` returns seconds since 1970.
    """

    database: Database
    sms: SmsGateway
    streams: StreamGateway
    _: KW_ONLY
    # The data folder for pictures, and how many bytes must stay free on its disk.
    data_dir: Path
    min_free_bytes: int
    # The database connections that this server can open.
    required_connections: int
    # The setting `sms.gateway`, and the URL of the SMS provider.
    sms_gateway: str
    sms_api_url: str
    # Called with `payment_providers`; returns the number of open orders at each provider that is
    # not among them.
    count_orders_without_gateway: Callable[[Connection, Sequence[str]], Mapping[str, int]]
    # The payment providers that `payments.gateway` names.
    payment_providers: Sequence[str] = ()
    # None without live events.
    events: EventCheck | None = None
    clock: Callable[[], float] = time.time

    def run_checks(self) -> list[CheckResult]:
        """Run all checks; return the results in the order in which to fix failures."""
        return [
            _run_check(name, check)
            for name, check in (
                ("database", self._database),
                ("migrations", self._migrations),
                ("connections", self._connections),
                ("disk", self._disk),
                ("sms", self._sms),
                ("streams", self._streams),
                ("payments", self._payments),
                ("events", self._events),
                ("clock", self._clock),
            )
        ]

    def _database(self) -> str:
        check_database(self.database)
        return "PostgreSQL is reachable and writable"

    def _migrations(self) -> str:
        check_migrations(self.database)
        return "the database schema is up to date"

    def _connections(self) -> str:
        try:
            check_connection_limit(self.database, required=self.required_connections)
        except (DBAPIError, PoolTimeout):
            return "not checked: the database is unavailable"  # the database check reports why
        return f"PostgreSQL allows the {self.required_connections} connections of this server"

    def _disk(self) -> str:
        check_disk(self.data_dir, min_free_bytes=self.min_free_bytes)
        return f"{self.data_dir} is writable and has enough free space"

    def _sms(self) -> str:
        if not isinstance(self.sms, CheckableSms):
            return f"not checked: {self.sms_gateway} can only be checked by sending an SMS"
        try:
            self.sms.check()
        except SmsFailed as error:
            raise CheckFailed(
                f"SMS messages cannot be sent: {error}",
                remedy="Compare qiniu.access_key, qiniu.secret_key and sms.template with Qiniu's"
                " console, and check that this machine can reach sms.api_url.",
            ) from None
        return "the SMS keys and the SMS template are valid"

    def _streams(self) -> str:
        try:
            # No stream has this key: the call only tests whether the provider accepts calls.
            self.streams.live_publishers([StreamReference("livebackend-doctor")])
        except StreamFailed as error:
            raise CheckFailed(
                f"the call to the stream provider failed: {error}",
                remedy="Compare the settings streams.* and the keys with the provider's console,"
                " and check that this machine can reach the provider.",
            ) from None
        return "the stream provider accepts calls"

    def _payments(self) -> str:
        try:
            with self.database.engine.connect() as connection:
                order_counts = self.count_orders_without_gateway(connection, self.payment_providers)
        except (DBAPIError, PoolTimeout):
            return "not checked: the database is unavailable"  # the database check reports why
        if order_counts:
            counts = ", ".join(f"{count} at {provider}" for provider, count in order_counts.items())
            raise CheckFailed(
                f"open orders of providers without a gateway in payments.gateway: {counts}",
                remedy="Append the gateways of these providers to payments.gateway, so that their"
                " payments are credited.",
            )
        providers = ", ".join(self.payment_providers)
        return f"payments of {providers} are credited" if providers else "no payment gateway is set"

    def _events(self) -> str:
        return self.events.run() if self.events else "events.gateway is empty: no live events"

    def _clock(self) -> str:
        """Compare this machine's clock with the clocks of PostgreSQL and the SMS provider."""
        measure_by_clock = {
            "the database": lambda: database_ahead_s(self.database, self.clock),
            self.sms_api_url: self._sms_ahead_s,
        }
        ahead_s_by_clock = {
            clock: ahead_s
            for clock, measure in measure_by_clock.items()
            if (ahead_s := measure()) is not None
        }
        skew_messages = [
            f"{clock} is {skew}"
            for clock, ahead_s in ahead_s_by_clock.items()
            if (skew := describe_skew(ahead_s))
        ]
        if skew_messages:
            raise CheckFailed(
                f"compared with this machine's clock, {' and '.join(skew_messages)}",
                remedy=CLOCK_REMEDY,
            )
        if not ahead_s_by_clock:
            return "not checked: no other clock is available"
        return f"this machine's clock agrees with {' and '.join(ahead_s_by_clock)}"

    def _sms_ahead_s(self) -> float | None:
        """Return the seconds that the SMS provider's clock is ahead of this machine's."""
        if not isinstance(self.sms, CheckableSms):
            return None
        try:
            response = requests.head(self.sms_api_url, timeout=_TIMEOUT_S, allow_redirects=False)
            return parsedate_to_datetime(response.headers["Date"]).timestamp() - self.clock()
        except (requests.RequestException, KeyError, ValueError):
            return None


def _run_check(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, check())
    except CheckFailed as error:
        return CheckResult(name, str(error), error.remedy)
