"""The one way to the ledger: hands transfers to it, and tells what became of them."""

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from livebackend.db import Database
from livebackend.results import Unavailable
from livebackend.services.ledger import Outcome, Status, Transfer, post


class LedgerWriter:
    """Posts transfers. Writers with different numbers do not wait for each other at a host."""

    def __init__(self, database: Database, *, number: int) -> None:
        self._database = database
        self._number = number

    def submit(self, transfer: Transfer) -> Outcome:
        """Posts a transfer; what is returned is committed.

        Must be called without a transaction open. Raises Unavailable with `outcome_unknown` when
        the connection broke so that nobody can tell; the same request id may be posted again.
        """

        def work(connection: Connection) -> Outcome:
            outcome = post(connection, [transfer], self._number)[0]
            if outcome.status is not Status.DONE:
                connection.rollback()  # not even an empty slot is left behind
            return outcome

        try:
            return self._database.run(work)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # It broke, perhaps in the middle of the commit. Posting the same request once more either
        # does it or finds it done.
        try:
            return self._database.run(work)
        except (DBAPIError, NoConnection) as error:
            raise Unavailable("the ledger", outcome_unknown=True) from error
