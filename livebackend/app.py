"""Creation of the WSGI application."""

import atexit
from collections.abc import Mapping
from typing import Any

from pyramid.config import Configurator
from pyramid.registry import Registry

from livebackend.api.client_address import ClientAddressResolver
from livebackend.api.forms import RequestLimits
from livebackend.api.html_pages import StaticFiles, build_pages
from livebackend.api.operation_declaration import operations
from livebackend.api.request import Request
from livebackend.api.request_body import BodyLimits
from livebackend.api.routes import request_limits
from livebackend.config.deprecated_names import configure_renamed_loggers
from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings, origin_of
from livebackend.container import Services, checked_settings, start_services
from livebackend.core.signing import derived_key
from livebackend.monitoring.health_checks import (
    ReadinessProbe,
    check_clock,
    check_start,
    readiness_checks,
)
from livebackend.monitoring.thread_health import ThreadHealth


def create_app(ini: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    """Return the WSGI application for the settings of an ini section.

    The environment overrides the section. Raises SystemExit with one message that names every
    configuration error.
    """
    configure_renamed_loggers()
    try:
        settings, gateways = checked_settings(ini, environment)
        services = start_services(settings, gateways)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    # On SIGTERM, the server finishes its open requests; `close` runs when the interpreter exits.
    atexit.register(services.close)
    app = _configure(settings, services).make_wsgi_app()
    services.start()
    return app


def _configure(settings: Settings, services: Services) -> Configurator:
    config = Configurator(request_factory=Request)
    config.registry.services = services
    _add_limits(config.registry, settings)
    _add_readiness(config.registry, settings, services)
    config.include("livebackend.api.tweens")
    config.include("livebackend.api.request_body")
    config.include("livebackend.api.routes")
    config.include("livebackend.api.operation_declaration")
    config.include("livebackend.api.view_deriver")
    config.scan("livebackend.api.exception_views")
    config.scan("livebackend.views")
    # commit() registers the operations. The pages describe the operations, so they are added later.
    config.commit()
    _add_pages(config.registry, settings, services)
    return config


def _add_limits(registry: Registry, settings: Settings) -> None:
    """Register the request limits, the phone pattern and the checks of the client."""
    form_limits = RequestLimits(
        max_fields=settings.http_max_fields,
        query_allowed=settings.http_allow_query_parameters,
    )
    registry.request_limits = request_limits(form_limits)
    registry.body_limits = BodyLimits(
        max_bytes=settings.http_max_body_bytes, max_upload_bytes=settings.http_max_upload_bytes
    )
    registry.phone_pattern = settings.phones_pattern
    registry.client_address_resolver = ClientAddressResolver(
        settings.trusted_proxies,
        trusts_unix_socket=settings.trusts_unix_socket,
        header=settings.http_client_address_header,
    )
    registry.allowed_origins = settings.allowed_origins
    registry.client_hash_key = derived_key(settings.signing_secrets[0], "client addresses")


def _add_readiness(registry: Registry, settings: Settings, services: Services) -> None:
    database, gate = services.probe_database, services.database_gate
    threads = ThreadHealth(
        services.threads, services.running_work, lambda: services.periodic_tasks.failed_tasks
    )
    # A wrong clock is only a warning: the clock of PostgreSQL must not stop all servers.
    registry.readiness = ReadinessProbe(
        {
            **readiness_checks(
                database, request_database=services.database, data_dir=settings.data_dir
            ),
            "start": lambda: check_start(is_complete=gate.is_open),
            "required_threads": threads.check_required_threads,
        },
        warning_checks={
            "clock": lambda: check_clock(database),
            "threads": threads.check_threads,
        },
    )


def _add_pages(registry: Registry, settings: Settings, services: Services) -> None:
    if not (settings.docs_enabled or settings.demo_enabled):
        registry.static_paths, registry.pages = frozenset(), {}
        return
    static_files = StaticFiles.read()
    streams = services.event_streams
    registry.static_paths = static_files.paths
    registry.pages = build_pages(
        operations(registry),
        docs=settings.docs_enabled,
        demo=settings.demo_enabled,
        static_folder=static_files.folder,
        phone_pattern=settings.phones_pattern,
        public_url=settings.http_public_url,
        event_stream_url=streams.url if streams else settings.default_event_stream_url,
        hls_host=settings.streams_hls_host,
        events_origin=origin_of(streams.url) if streams else "",
    )
