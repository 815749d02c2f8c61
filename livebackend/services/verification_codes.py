"""Verification codes: generation, and delivery by SMS."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv6Network
from random import Random

from sqlalchemy import (
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
from livebackend.services.code_verifiers import CodeHasher, CodeVerifier, Purpose
from livebackend.services.rate_limits import RateLimit, RateLimiter

_ENABLED_ACCOUNT = select(models.Account.id).where(
    models.Account.phone == bindparam("phone"), models.Account.disabled_at.is_(None)
)
_ANY_ACCOUNT = select(models.Account.id).where(models.Account.phone == bindparam("phone"))
_INSERT_CODE = insert(models.VerificationCode).values(
    id=bindparam("id"),
    phone=bindparam("phone"),
    purpose=bindparam("purpose"),
    digest=bindparam("digest"),
    expires_at=func.now() + bindparam("ttl", type_=Interval),
)
_SET_SMS_OUTCOME = (
    update(models.VerificationCode)
    .where(
        models.VerificationCode.id == bindparam("code_id"),
        models.VerificationCode.state == "unsent",
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
        rate_limits: RateLimiter,
        verifier: CodeVerifier,
        hasher: CodeHasher,
        *,
        rng: Random,
        ttl: timedelta,
    ) -> None:
        self._database = database
        self._sms = sms
        self._rate_limits = rate_limits
        self._hasher = hasher
        self._rng = rng
        self._ttl = ttl
        self._verifier = verifier
        self.verify = verifier.verify

    def send_registration_code(self, phone: str, *, address: str) -> str:
        """Send a code for a registration; return the ticket for its verification.

        Raises PhoneTaken, RateLimited and MessageNotSent.
        """
        if self._database.execute_one(_ANY_ACCOUNT, phone=phone):
            # No message is sent, so only the limit of the client address counts the request.
            self._rate_limits.consume(*_client_limits(address))
            raise PhoneTaken
        return self._send(phone, Purpose.REGISTER, should_send=True, address=address)

    def send_password_reset_code(self, phone: str, *, address: str) -> str:
        """Send a code for a password reset; return the ticket for its verification.

        Returns a ticket for an unknown phone too, but sends no message. Raises RateLimited and
        MessageNotSent.
        """
        account = self._database.execute_one(_ENABLED_ACCOUNT, phone=phone)
        return self._send(phone, Purpose.RESET, should_send=account is not None, address=address)

    def _send(self, phone: str, purpose: Purpose, *, should_send: bool, address: str) -> str:
        self._rate_limits.consume(
            *_client_limits(address),
            RateLimit("sms_phone", phone),
            # Only a sent message costs money. An unknown phone must get the same response.
            RateLimit("sms_total", "all", counted=should_send),
        )
        code_id, code = (
            uuid.UUID(int=self._rng.getrandbits(128), version=4),
            self.new_code(purpose),
        )
        row = {
            "id": code_id,
            "phone": phone,
            "purpose": purpose,
            # An unknown phone gets a row too, so that wrong attempts are counted. No code matches
            # the digest of this row.
            "digest": self._hasher.hash(code_id, code if should_send else f"not {code}"),
            "ttl": self._ttl,
        }

        def set_sms_outcome(outcome: str) -> None:
            self._database.execute_one(_SET_SMS_OUTCOME, code_id=code_id, outcome=outcome)

        # The row is inserted first, so that each sent code has a row even after a crash.
        self._database.execute_one(_INSERT_CODE, **row)
        try:
            if should_send:
                self._sms.send(phone, code)
        except SmsFailed:
            set_sms_outcome("failed")
            raise MessageNotSent from None
        set_sms_outcome("sent")
        return self._verifier.issue_ticket(code_id, code)

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
