"""Creation of the WSGI application."""

import atexit
from collections.abc import Mapping
from typing import Any

from pyramid.config import Configurator
from pyramid.registry import Registry

from livebackend.api.client_address import Peers
from livebackend.api.declaration import operations
from livebackend.api.forms import Bounds
from livebackend.api.pages import StaticFiles, make_pages
from livebackend.api.request import Request
from livebackend.api.routes import bounds
from livebackend.config.deprecated_names import configure_renamed_loggers
from livebackend.config.errors import SettingsError
from livebackend.config.settings import Settings
from livebackend.container import Services, checked_settings, start_services
from livebackend.monitoring.health_checks import Readiness, checks_of


def create_app(ini: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    """Return the WSGI application of an ini section, overridden by the environment.

    Raises SystemExit with one message that names every configuration error.
    """
    configure_renamed_loggers()
    try:
        settings, gateways = checked_settings(ini, environment)
        services = start_services(settings, gateways)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    # On SIGTERM the server finishes its open requests; the interpreter then runs this handler.
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
    config.include("livebackend.api.routes")
    config.include("livebackend.api.declaration")
    config.include("livebackend.api.deriver")
    config.include("livebackend.api.responses")
    config.scan("livebackend.api.exception_views")
    config.scan("livebackend.views")
    # The pages describe the operations, which the commit registers.
    config.commit()
    _add_pages(config.registry, settings)
    return config


def _add_limits(registry: Registry, settings: Settings) -> None:
    """Register the request limits, the phone pattern and the client address resolver."""
    form = Bounds(
        body_bytes_max=settings.http_body_bytes_max,
        fields_max=settings.http_fields_max,
        query_allowed=settings.http_query_parameters,
    )
    registry.bounds = bounds(form, upload_bytes_max=settings.http_upload_bytes_max)
    registry.phones_pattern = settings.phones_pattern
    registry.peers = Peers(settings.trusted_proxies)


def _add_readiness(registry: Registry, settings: Settings, services: Services) -> None:
    checks = checks_of(
        services.probe_database,
        folder=settings.var_dir,
        free_bytes_min=settings.pictures_free_bytes_min,
    )
    registry.readiness = Readiness(checks)


def _add_pages(registry: Registry, settings: Settings) -> None:
    if not (settings.docs_enabled or settings.demo_enabled):
        registry.static_paths, registry.pages = frozenset(), {}
        return
    static = StaticFiles.read()
    registry.static_paths = static.paths
    registry.pages = make_pages(
        operations(registry),
        docs=settings.docs_enabled,
        demo=settings.demo_enabled,
        static_folder=static.folder,
        phones_pattern=settings.phones_pattern,
        public_url=settings.http_url,
        hls_host=settings.streams_hls_host,
    )
