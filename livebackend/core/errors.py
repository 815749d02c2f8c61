"""Errors that every layer can raise."""


class Unavailable(Exception):
    """The call cannot be served now, and may be tried again after `retry_after_s`.

    `outcome_unknown`: it may have been done all the same. `repeat_as` is the request id by which it
    may be repeated and is done once.
    """

    def __init__(
        self,
        what: str,
        *,
        retry_after_s: int = 1,
        outcome_unknown: bool = False,
        repeat_as: str | None = None,
    ) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s
        self.outcome_unknown = outcome_unknown
        self.repeat_as = repeat_as


class CommitOutcomeUnknown(Unavailable):
    """The connection was lost during COMMIT: the transaction may be committed."""

    def __init__(self) -> None:
        super().__init__("the database", outcome_unknown=True)
