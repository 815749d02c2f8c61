"""What hangs on a request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyramid.request import Request as PyramidRequest
from sqlalchemy import Connection

from livebackend.db import Database
from livebackend.form import Form, read_form
from livebackend.gateways.qiniu import QiniuCallbacks
from livebackend.gateways.sms import SmsGateway
from livebackend.gateways.streams import StreamGateway
from livebackend.ledger_writer import LedgerWriter
from livebackend.limits import Limits
from livebackend.results import Result
from livebackend.services.accounts import Account, Accounts, Claims
from livebackend.services.codes import Codes
from livebackend.services.friends import Friends
from livebackend.services.gifts import Gifts
from livebackend.services.lists import Lists
from livebackend.services.logins import Logins
from livebackend.services.passwords import Passwords
from livebackend.services.payment_orders import PaymentOrders
from livebackend.services.payment_reconciliation import PaymentReconciliation
from livebackend.services.payment_refunds import PaymentRefunds
from livebackend.services.pictures import Pictures
from livebackend.services.refills import Refills
from livebackend.services.rooms import Rooms
from livebackend.services.streams import Streams
from livebackend.settings import Settings
from livebackend.sweeper import Sweeper

if TYPE_CHECKING:
    from livebackend.operation import Operation
    from livebackend.security import LoginTokens


@dataclass(frozen=True)
class House:
    """What `main()` builds once and every request uses."""

    settings: Settings
    database: Database
    # The same for those who watch: health checks and metrics.
    probes: Database
    sms: SmsGateway
    login_tokens: LoginTokens
    limits: Limits
    passwords: Passwords
    accounts: Accounts
    logins: Logins
    codes: Codes
    rooms: Rooms
    provider: StreamGateway
    streams: Streams
    sweeper: Sweeper
    callbacks: QiniuCallbacks
    pictures: Pictures
    gifts: Gifts
    refills: Refills
    orders: PaymentOrders
    refunds: PaymentRefunds
    reconciliation: PaymentReconciliation
    writer: LedgerWriter

    def stop(self) -> None:
        """Sends away whoever waits: this process is about to end."""
        self.passwords.stop()

    def close(self) -> None:
        """Posts what the ledger has in hand, and gives back what is held outside this process."""
        self.sweeper.close()
        self.writer.close()
        self.limits.close()
        self.probes.close()
        self.database.close()


class Request(PyramidRequest):  # type: ignore[misc]  # pyramid brings no types
    """A request of ours: `house` is the application's, the rest is this call's alone."""

    # Set by the operation's deriver.
    operation: Operation | None = None
    # None where the operation waits for something outside the database: such a one opens its own
    # short transactions.
    db: Connection = None  # type: ignore[assignment]
    claims: Claims
    account: Account
    # A lost race runs an operation again, and does not count it again.
    is_counted = False
    # What the reply bears, once there is one.
    result: Result | None = None
    given: Any

    @cached_property
    def house(self) -> House:
        house: House = self.registry.house
        return house

    @cached_property
    def address(self) -> str:
        """Whom limits count a call for that nobody logged in makes."""
        address: str = self.registry.peers.address(self)
        return address

    @cached_property
    def params(self) -> Form:
        """The parameters of query and body, each once. Raises NotACall, as `read_form` does."""
        return read_form(self, self.registry.bounds[self.matched_route.name])

    # Not kept: an operation that runs again has another connection.
    @property
    def friends(self) -> Friends:
        settings = self.house.settings
        return Friends(
            self.db,
            self.account,
            friends_max=settings.friends_max,
        )

    @property
    def lists(self) -> Lists:
        settings = self.house.settings
        return Lists(
            self.db,
            self.claims,
            friends_max=settings.friends_max,
            messages_max=settings.messages_max,
        )
