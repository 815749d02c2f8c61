"""Cache of WeChat Pay's platform certificates; limits how often it requests them."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from livebackend.gateways.circuit_breaker import Deadline
from livebackend.gateways.payments.wechat.crypto import PlatformCertificate

log = logging.getLogger(__name__)

# Minimum time between two look-ups. Without the minimum, any client could cause many look-ups by
# sending notifications with unknown serial numbers.
LOOKUP_PERIOD_S = 60.0
LOOKUP_TIMEOUT_S = 3.0

CertificateLookUp = Callable[[Deadline], Sequence[PlatformCertificate]]


class CertificateLookupFailed(Exception):
    """The look-up returned no valid certificate; the message has the reason."""


class PlatformCertificates:
    """The certificates that verify WeChat Pay's signatures. Safe for concurrent use.

    An unknown serial number starts a look-up in the caller's thread, at most once in 60 s. Other
    threads do not wait for this look-up: they reject their notifications, and WeChat Pay sends
    these notifications again. After a failed look-up, the known certificates stay in use.

    Source: WeChat Pay API v3, "平台证书更新指引".
    """

    def __init__(
        self,
        look_up: CertificateLookUp,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next_lookup_at = -math.inf
        # The mapping is replaced, never modified, so that readers need no lock.
        self._certificates: Mapping[int, PlatformCertificate] = {}

    def load(self) -> None:
        """Download the certificates. Raises CertificateLookupFailed."""
        self._claim_lookup()
        self._replace_certificates(Deadline(LOOKUP_TIMEOUT_S))

    def find(self, serial: int, deadline: Deadline | None = None) -> PlatformCertificate | None:
        """Return the valid certificate with this serial number, or None.

        Takes at most 3 s, and ends before `deadline`.
        """
        certificate = self._find_valid(serial)
        if certificate is None and self._claim_lookup():
            timeout_s = (
                min(LOOKUP_TIMEOUT_S, deadline.remaining_s) if deadline else LOOKUP_TIMEOUT_S
            )
            try:
                self._replace_certificates(Deadline(timeout_s))
            except CertificateLookupFailed as error:
                log.error(
                    "WeChat Pay: certificate look-up failed, %d known certificates stay in use: %s",
                    len(self._certificates),
                    error,
                )
            certificate = self._find_valid(serial)
        return certificate

    def _find_valid(self, serial: int) -> PlatformCertificate | None:
        certificate = self._certificates.get(serial)
        return certificate if certificate and certificate.is_valid_at(self._now()) else None

    def _claim_lookup(self) -> bool:
        """Reserve a look-up for this thread; return False if one began in the last 60 s."""
        with self._lock:
            now_s = self._monotonic()
            if now_s < self._next_lookup_at:
                return False
            self._next_lookup_at = now_s + LOOKUP_PERIOD_S
            return True

    def _replace_certificates(self, deadline: Deadline) -> None:
        certificates = self._look_up(deadline)
        if not any(certificate.is_valid_at(self._now()) for certificate in certificates):
            raise CertificateLookupFailed(
                f"WeChat Pay returned {len(certificates)} certificates, none of them valid now"
            )
        self._certificates = {certificate.serial: certificate for certificate in certificates}

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
