"""Tweens: request ids, headers, proxies, origins, access log, health checks."""

import logging
import random
import re
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import orjson
from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.tweens import EXCVIEW

from livebackend.api.client_address import ClientAddressResolver
from livebackend.api.client_connections import ClientConnections
from livebackend.api.error_reasons import ErrorReason
from livebackend.api.errors import InvalidRequest
from livebackend.api.request import Request
from livebackend.api.request_origin import is_from_foreign_page
from livebackend.api.responses import EnvelopeResponse
from livebackend.api.routes import HOOK_PATH
from livebackend.core.hmac_sha256 import HmacSha256
from livebackend.core.request_context import (
    DatabaseBudget,
    database_budget,
    request_id,
    request_started_at,
    watch_connection,
)
from livebackend.core.running_work import RunningWork
from livebackend.monitoring.health_checks import ProbeResult, ReadinessProbe
from livebackend.monitoring.metrics import Metrics

# The access log has a separate logger, so that operators can disable it with the log level
# WARNING of this logger.
log = logging.getLogger("livebackend.access")

Handler = Callable[[Request], Any]

_HEALTH_PATH, _READY_PATH = "/healthz", "/readyz"
_REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,64}")
# Headers of a response that does not have them, by their names in lower case.
_HEADERS = {
    name.lower(): (name, value)
    for name, value in {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'",
    }.items()
}
# Request ids need not be secret. The generator of the system would release the interpreter's lock
# (GIL): another thread would run, and the request would wait for it.
_random = random.Random(random.SystemRandom().getrandbits(256))  # noqa: S311


def request_id_tween_factory(handler: Handler, registry: Any) -> Handler:
    """Outermost tween: sets the request context and the security headers."""
    resolver: ClientAddressResolver = registry.client_address_resolver
    connections = ClientConnections()

    def tween(request: Request) -> Any:
        environ = request.environ
        is_proxied = resolver.is_from_trusted_proxy(request)
        is_behind_https = is_proxied and _came_by_https(request)
        if is_behind_https:
            request.scheme = "https"  # for the URLs of redirects
        received_id = environ.get("HTTP_X_REQUEST_ID", "")
        is_accepted = is_proxied and _REQUEST_ID.fullmatch(received_id)
        response_id = received_id if is_accepted else f"{_random.getrandbits(128):032x}"
        id_token = request_id.set(response_id)
        start_token = request_started_at.set(time.monotonic())
        budget_token = database_budget.set(DatabaseBudget())
        watch_token = watch_connection.set(partial(connections.watch, int(environ["SERVER_PORT"])))
        try:
            response = handler(request)
        finally:
            request_id.reset(id_token)
            request_started_at.reset(start_token)
            database_budget.reset(budget_token)
            watch_connection.reset(watch_token)
        _add_headers(response, response_id, is_behind_https=is_behind_https)
        return response

    return tween


def _add_headers(response: Any, response_id: str, *, is_behind_https: bool) -> None:
    """Add the request id and the security headers, except those that the response has."""
    headers: list[tuple[str, str]] = response.headerlist
    missing = _HEADERS.keys() - {name.lower() for name, _ in headers}
    headers.append(("X-Request-Id", response_id))
    headers.extend(_HEADERS[name] for name in missing)
    if is_behind_https:
        headers.append(("Strict-Transport-Security", "max-age=31536000"))


def require_https_tween_factory(handler: Handler, registry: Any) -> Handler:
    """Tween that rejects requests that reached a trusted proxy without HTTPS.

    Also rejects requests over a unix socket, unless the settings trust it. Otherwise all clients
    would have the same address.
    """
    resolver: ClientAddressResolver = registry.client_address_resolver

    def tween(request: Request) -> Any:
        if resolver.is_over_untrusted_unix_socket(request):
            raise InvalidRequest(400, "proxy", ErrorReason.UNTRUSTED_PROXY)
        # A media server on this machine requests the hook without HTTPS and without the proxy, but
        # its address can be that of a trusted proxy.
        is_hook = request.environ["PATH_INFO"] == HOOK_PATH and resolver.is_local(request)
        is_proxied = resolver.is_from_trusted_proxy(request)
        if is_proxied and not _came_by_https(request) and not is_hook:
            raise InvalidRequest(400, "scheme", ErrorReason.HTTPS_REQUIRED)
        return handler(request)

    return tween


def reject_foreign_origin_tween_factory(handler: Handler, registry: Any) -> Handler:
    """Tween that rejects requests that a browser sends for a page of another web site.

    Such a page could use its visitors' addresses to send SMS codes. The origin is only checked if
    the settings restrict the origins, and not for GET and HEAD, which change nothing.
    """
    allowed_origins: frozenset[str] | None = registry.allowed_origins

    def tween(request: Request) -> Any:
        if (
            allowed_origins is not None
            and request.method not in ("GET", "HEAD")
            and is_from_foreign_page(request, allowed_origins)
        ):
            raise InvalidRequest(400, "origin", ErrorReason.ORIGIN_NOT_ALLOWED)
        return handler(request)

    return tween


def _came_by_https(request: Request) -> bool:
    scheme: str = request.environ.get("HTTP_X_FORWARDED_PROTO", "")
    return scheme.strip().lower() == "https"


def access_log_tween_factory(handler: Handler, registry: Any) -> Handler:
    """Tween for metrics and the access log.

    The log contains the account id and a keyed hash of the client address, but no parameters.
    """
    metrics: Metrics = registry.services.metrics
    running_requests: RunningWork = registry.services.running_requests
    # Many requests come from one address.
    client_hash = lru_cache(maxsize=4096)(
        partial(_keyed_hash, HmacSha256(registry.client_hash_key))
    )

    def tween(request: Request) -> Any:
        start = time.perf_counter()
        running_request = running_requests.begin()
        try:
            response = handler(request)
        finally:
            running_requests.end(running_request)
        seconds = time.perf_counter() - start
        operation = _operation_name(request)
        is_envelope = isinstance(response, EnvelopeResponse)
        result = response.result_code.code if is_envelope else ""
        status = response.status_int
        metrics.observe_request(operation=operation, result=result, status=status, seconds=seconds)
        if log.isEnabledFor(logging.INFO):
            duration_ms = round(seconds * 1000, 1)
            fields = {
                "operation": operation,
                "result": result,
                "status": status,
                "duration_ms": duration_ms,
                "account": request.account_id,
                "client_hash": client_hash(request.address),
            }
            _log_request((operation, result or "-", status, duration_ms), fields)
        return response

    return tween


def _log_request(arguments: tuple[object, ...], fields: dict[str, object]) -> None:
    # log.info() would search the stack for its caller: a tenth of the cost of the record.
    message = "request %s: result %s, status %s, %s ms"
    extra = {"fields": fields}
    record = log.makeRecord(
        log.name, logging.INFO, __file__, 0, message, arguments, None, extra=extra
    )
    log.handle(record)


def _keyed_hash(hmac: HmacSha256, text: str) -> str:
    return hmac.digest(text.encode()).hex()[:32]


def health_check_tween_factory(handler: Handler, registry: Any) -> Handler:
    """Tween that serves the health checks, for any Host header, also without HTTPS.

    `/healthz`: 200 while the process runs. `/readyz`: 200, or 503 with the failed checks; a warning
    does not change the status.
    """
    readiness: ReadinessProbe = registry.readiness

    def tween(request: Request) -> Any:
        path = request.environ.get("PATH_INFO")
        if path not in (_HEALTH_PATH, _READY_PATH) or request.method not in ("GET", "HEAD"):
            return handler(request)
        result = readiness.run() if path == _READY_PATH else ProbeResult({}, {})
        response = Response(
            orjson.dumps(result._asdict()),
            status=503 if result.failures else 200,
            content_type="application/json",
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    return tween


def _operation_name(request: Request) -> str:
    if request.operation:
        return request.operation.name
    # An unknown path is not used as a name: it can hold secrets and would add a metric label.
    return request.matched_route.name if request.matched_route else "none"


def includeme(config: Configurator) -> None:
    """Add the tweens, the outermost first."""

    def tween_name(factory: Callable[[Handler, Any], Handler]) -> str:
        return f"{factory.__module__}.{factory.__name__}"

    request_id_tween = tween_name(request_id_tween_factory)
    access_log_tween = tween_name(access_log_tween_factory)
    config.add_tween(request_id_tween, over=EXCVIEW)
    config.add_tween(
        tween_name(health_check_tween_factory), under=request_id_tween, over=access_log_tween
    )
    config.add_tween(access_log_tween, under=request_id_tween, over=EXCVIEW)
    # These tweens are under the exception views, which render their errors as response envelopes.
    https_tween = tween_name(require_https_tween_factory)
    config.add_tween(https_tween, under=EXCVIEW)
    config.add_tween(tween_name(reject_foreign_origin_tween_factory), under=https_tween)
