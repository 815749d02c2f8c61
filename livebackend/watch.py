"""Watching the server: each call counted and logged; whether it lives, and is ready for calls."""

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson
from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.tweens import EXCVIEW

from livebackend.health import Readiness
from livebackend.metrics import Metrics
from livebackend.request import Request

# A logger of its own: a server too busy to write each call down sets it to WARNING.
log = logging.getLogger("livebackend.calls")

Handler = Callable[[Request], Any]

HEALTH, READY = "/healthz", "/readyz"


def every_call(handler: Handler, registry: Any) -> Handler:
    """A tween that counts and times each call, and logs a line: never a parameter."""
    metrics: Metrics = registry.metrics

    def tween(request: Request) -> Any:
        start = time.perf_counter()
        response = handler(request)
        seconds = time.perf_counter() - start
        operation = _name(request)
        result = request.result.code if request.result else ""
        status = response.status_int
        metrics.called(operation=operation, result=result, status=status, seconds=seconds)
        if log.isEnabledFor(logging.INFO):
            fields = {
                "operation": operation,
                "result": result,
                "status": status,
                "ms": round(seconds * 1000, 1),
            }
            log.info("%s", " ".join(map(str, fields.values())), extra={"fields": fields})
        return response

    return tween


def health(handler: Handler, registry: Any) -> Handler:
    """A tween that answers for the server's health, before anything is asked of the request.

    `/healthz`: this process answers. `/readyz`: it can do its work, or 503 with what fails.
    """
    readiness: Readiness = registry.readiness

    def tween(request: Request) -> Any:
        path = request.environ.get("PATH_INFO")
        if path not in (HEALTH, READY) or request.method not in ("GET", "HEAD"):
            return handler(request)
        faults = readiness.faults() if path == READY else {}
        response = Response(
            orjson.dumps({"faults": faults}),
            status=503 if faults else 200,
            content_type="application/json",
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    return tween


def _name(request: Request) -> str:
    if request.operation:
        return request.operation.name
    # A path that is none of ours is never named: it may hold anything, and there is no end of it.
    return request.matched_route.name if request.matched_route else "none"


def includeme(config: Configurator) -> None:
    config.add_tween(
        "livebackend.watch.every_call",
        under="livebackend.transport.every_request",
        over=EXCVIEW,
    )
    config.add_tween(
        "livebackend.watch.health",
        under="livebackend.transport.every_request",
        over="livebackend.watch.every_call",
    )
