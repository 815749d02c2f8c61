"""What may be wrong with an installation, and what to do about each: for whoever runs it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend.database.engine import Database
from livebackend.gateways.sms.protocol import CheckableSms, SmsFailed, SmsGateway
from livebackend.gateways.streams import StreamFailed, StreamGateway
from livebackend.monitoring.health_checks import Fault, check_database, check_disk, check_migrations

# Tokens of another server are taken up to 60 s ahead of our own clock; half of that is a fault.
_SKEW_MAX_S = 30.0
_ANSWER_S = 4


@dataclass(frozen=True)
class Finding:
    """What came of one check: all is well where there is nothing to do."""

    check: str
    says: str
    do: str | None = None

    @property
    def sound(self) -> bool:
        return self.do is None


@dataclass(frozen=True)
class Doctor:
    """Looks at everything that a server needs. `clock` gives seconds since 1970 UTC."""

    database: Database
    sms: SmsGateway
    streams: StreamGateway
    _: KW_ONLY
    # Where pictures are written, and how much room must be left there.
    folder: Path
    free_bytes_min: int
    # The setting `sms.gateway`, and the URL of its provider.
    sms_gateway: str
    sms_url: str
    # Counts the open orders of other payment providers than the given ones, by provider.
    unserved_orders: Callable[[Connection, Sequence[str]], Mapping[str, int]]
    # The payment providers that `payments.gateway` names.
    payment_providers: Sequence[str] = ()
    clock: Callable[[], float] = time.time

    def findings(self) -> list[Finding]:
        """What came of each check, in the order in which to mend it."""
        return [
            _finding(name, check)
            for name, check in (
                ("database", self._database),
                ("migrations", self._migrations),
                ("disk", self._disk),
                ("sms", self._sms),
                ("streams", self._streams),
                ("payments", self._payments),
                ("clock", self._clock),
            )
        ]

    def _database(self) -> str:
        check_database(self.database)
        return "answers and takes writes"

    def _migrations(self) -> str:
        check_migrations(self.database)
        return "the tables are up to date"

    def _disk(self) -> str:
        check_disk(self.folder, free_bytes_min=self.free_bytes_min)
        return f"{self.folder} can be written and has room"

    def _sms(self) -> str:
        if not isinstance(self.sms, CheckableSms):
            return f"{self.sms_gateway} cannot be asked without sending a message"
        try:
            self.sms.check()
        except SmsFailed as error:
            raise Fault(
                f"no message can be sent: {error}",
                do="Compare qiniu.access_key, qiniu.secret_key and sms.template with Qiniu's"
                " console, and see that sms.url can be reached from here.",
            ) from None
        return "the keys and the template are good"

    def _streams(self) -> str:
        try:
            self.streams.on_air(["livebackend-doctor"])  # nobody's: it is not on air
        except StreamFailed as error:
            raise Fault(
                f"the provider refuses or does not answer: {error}",
                do="Compare the settings streams.* and the keys with the provider's console, and"
                " see that it can be reached from here.",
            ) from None
        return "the provider answers"

    def _payments(self) -> str:
        try:
            with self.database.engine.connect() as connection:
                unserved = self.unserved_orders(connection, self.payment_providers)
        except (DBAPIError, NoConnection):
            return "the orders cannot be read"  # the check of the database says why
        if unserved:
            counts = ", ".join(f"{count} at {provider}" for provider, count in unserved.items())
            raise Fault(
                f"orders are open at providers that payments.gateway does not name: {counts}",
                do="Add the gateways of these providers to payments.gateway, after the first, so"
                " that their payments are credited.",
            )
        providers = ", ".join(self.payment_providers)
        return f"payments of {providers} are credited" if providers else "no gateway is set"

    def _clock(self) -> str:
        """Compares this machine's clock with others': who is alone is wrong."""
        others = {"the database": self._database_ahead_s, self.sms_url: self._sms_ahead_s}
        ahead = {name: found for name, ask in others.items() if (found := ask()) is not None}
        off = [f"{name} is {says}" for name, s in ahead.items() if (says := _skew(s))]
        if off:
            raise Fault(
                f"against this machine's clock {' and '.join(off)}",
                do="Run a time service on this machine and on the database's"
                " (`timedatectl set-ntp true`): tokens and codes are judged by these clocks.",
            )
        return f"agrees with {' and '.join(ahead)}" if ahead else "there is none to compare it with"

    def _database_ahead_s(self) -> float | None:
        statement = text("SELECT extract(epoch FROM clock_timestamp())::float8")
        try:
            with self.database.engine.connect() as connection:
                before = self.clock()
                there: float = connection.execute(statement).scalar_one()
                return there - (before + self.clock()) / 2
        except (DBAPIError, NoConnection):
            return None  # another check tells

    def _sms_ahead_s(self) -> float | None:
        """By the `Date` of any answer at all, where the messages really go."""
        if not isinstance(self.sms, CheckableSms):
            return None
        try:
            answer = requests.head(self.sms_url, timeout=_ANSWER_S, allow_redirects=False)
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - self.clock()
        except (requests.RequestException, KeyError, ValueError):
            return None


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, check())
    except Fault as fault:
        return Finding(name, str(fault), fault.do)


def _skew(ahead_s: float) -> str | None:
    if abs(ahead_s) <= _SKEW_MAX_S:
        return None
    return f"{abs(ahead_s):,.0f} s {'ahead' if ahead_s > 0 else 'behind'}"
