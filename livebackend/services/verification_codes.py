"""Verification codes: generation, and delivery by SMS."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from ipaddress import IPv6Network
from random import Random

from sqlalchemy import (
    Connection,
    Interval,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from livebackend import models
from livebackend.core.errors import MessageNotSent, PhoneTaken
from livebackend.database.engine import Database
from livebackend.gateways.sms.protocol import SmsFailed, SmsGateway
from livebackend.services.code_verifiers import (
    CodeHasher,
    CodeVerifier,
    Purpose,
    mark_verified,
)
from livebackend.services.rate_limits import RateLimit, RateLimiter
from livebackend.services.sms_queue import QueuedCode, SmsQueue

_ENABLED_ACCOUNT = select(models.Account.id).where(
    models.Account.phone == bindparam("phone"), models.Account.disabled_at.is_(None)
)
_ANY_ACCOUNT = select(models.Account.id).where(models.Account.phone == bindparam("phone"))
_INSERT_CODE = insert(models.VerificationCode).values(
    id=bindparam("id"),
    phone=bindparam("phone"),
    purpose=bindparam("purpose"),
    digest=bindparam("digest"),
    state=bindparam("state"),
    expires_at=func.now() + bindparam("ttl", type_=Interval),
)
_SET_SMS_OUTCOME = (
    update(models.VerificationCode)
    .where(
        models.VerificationCode.id == bindparam("code_id"),
        models.VerificationCode.state.in_(("unsent", "sent")),
    )
    .values(state=bindparam("outcome"))
)
# A site of one customer is an IPv6 network with a prefix of at least 48 bits (RFC 6177).
_IPV6_SITE_BITS = 48


class VerificationCodes:
    """Sends verification codes by SMS. A code expires after `ttl`."""

    def __init__(
        self,
        database: Database,
        sms: SmsGateway,
        sms_queue: SmsQueue,
        rate_limits: RateLimiter,
        *,
        verifier: CodeVerifier,
        hasher: CodeHasher,
        rng: Random,
        ttl: timedelta,
    ) -> None:
        self._database = database
        self._sms = sms
        self._sms_queue = sms_queue
        self._rate_limits = rate_limits
        self._hasher = hasher
        self._rng = rng
        self._ttl = ttl
        self._verifier = verifier
        self.check = verifier.check

    def send_registration_code(self, phone: str, *, address: str) -> str:
        """Send a code for a registration; return the ticket for its verification.

        Raises PhoneTaken, RateLimited and MessageNotSent.
        """
        if self._database.execute_one(_ANY_ACCOUNT, phone=phone):
            # No message is sent, so only the limit of the client address counts the request.
            self._rate_limits.consume(*_client_limits(address))
            raise PhoneTaken
        self._count(phone, address=address, is_sent=True)
        code_id, code = self._insert(phone, Purpose.REGISTER, state="unsent")
        try:
            self._sms.send(phone, code)
        except SmsFailed:
            self._set_sms_outcome(code_id, "failed")
            raise MessageNotSent from None
        self._set_sms_outcome(code_id, "sent")
        return self._verifier.issue_ticket(code_id, code)

    def send_password_reset_code(self, phone: str, *, address: str) -> str:
        """Queue a code for a password reset; return the ticket for its verification.

        Returns a ticket for an unknown phone too, but sends no message. The response and its time
        are the same, because no request waits for the SMS provider. Raises RateLimited.
        """
        self._sms_queue.raise_if_full()
        is_registered = self._database.execute_one(_ENABLED_ACCOUNT, phone=phone) is not None
        self._count(phone, address=address, is_sent=is_registered)
        # The code is valid before it is sent, so that it is valid when the user receives it.
        code_id, code = self._insert(
            phone, Purpose.RESET, state="sent", matches_no_code=not is_registered
        )
        self._sms_queue.add(
            QueuedCode(
                phone,
                code if is_registered else None,
                on_failure=partial(self._set_sms_outcome, code_id, "failed"),
            )
        )
        return self._verifier.issue_ticket(code_id, code)

    def _count(self, phone: str, *, address: str, is_sent: bool) -> None:
        self._rate_limits.consume(
            *_client_limits(address),
            RateLimit("sms_phone", phone),
            # Only a sent message costs money. An unknown phone must get the same response.
            RateLimit("sms_total", "all", counted=is_sent),
        )

    def _insert(
        self, phone: str, purpose: Purpose, *, state: str, matches_no_code: bool = False
    ) -> tuple[uuid.UUID, str]:
        """Insert the row of a new code; return its id and the code.

        The row is inserted before the code is sent, so that each sent code has a row even after a
        crash. An unknown phone gets a row too, so that wrong attempts are counted.
        """
        code_id = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        code = self.new_code(purpose)
        row = {
            "id": code_id,
            "phone": phone,
            "purpose": purpose,
            "state": state,
            "digest": self._hasher.hash(code_id, f"not {code}" if matches_no_code else code),
            "ttl": self._ttl,
        }

        self._database.execute_one(_INSERT_CODE, **row)
        return code_id, code

    def _set_sms_outcome(self, code_id: uuid.UUID, outcome: str) -> None:
        self._database.execute_one(_SET_SMS_OUTCOME, code_id=code_id, outcome=outcome)

    def verify(
        self,
        connection: Connection,
        *,
        ticket: str,
        code: str,
        purpose: Purpose,
        phone: str | None = None,
        address: str | None = None,
    ) -> None:
        """Check a code and mark it as verified. Raises the errors of `CodeVerifier.check`.

        `address` is the client address that can register the phone.
        """
        code_ids = self.check(connection, ticket=ticket, code=code, purpose=purpose, phone=phone)
        address_digest = self._hasher.hash_address(address)
        mark_verified(connection, code_ids, purpose, address_digest=address_digest)

    def new_code(self, purpose: Purpose) -> str:
        """Return a random code with as many digits as `purpose` requires."""
        return f"{self._rng.randrange(10**purpose.digits):0{purpose.digits}d}"


def _client_limits(address: str) -> Iterator[RateLimit]:
    """Return the rate limits of a client address; an IPv6 address is a /64 network.

    An IPv6 site has thousands of /64 networks. So it has a limit too: otherwise, one site could
    use up the limit of all clients.
    """
    yield RateLimit("sms_address", address)
    if "/" in address:
        network = IPv6Network(address).supernet(new_prefix=_IPV6_SITE_BITS)
        yield RateLimit("sms_network", str(network))
