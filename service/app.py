"""The application: routes, middleware, errors, and the state that the requests share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from lookalike.index.changes.collection import Collection
from lookalike.index.drift.drift import FOLDER
from lookalike.service.api.guard import GZIP_BYTES, GZIP_LEVEL, FastPath, allow_origins
from lookalike.service.api.item_routes import items, items_written
from lookalike.service.api.routes import admin, guarded, health
from lookalike.service.errors import install_handlers
from lookalike.service.observability.drift import DriftWatch
from lookalike.service.observability.logs import lifecycle
from lookalike.service.observability.metrics import Metrics, MetricsMiddleware
from lookalike.service.observability.tracing import PrivateSpans, telemetry
from lookalike.service.parsing.bodies import Budget
from lookalike.service.security.keys import KeyRing
from lookalike.service.serving.serving import Health, Serving
from lookalike.service.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings, collection: Collection) -> FastAPI:
    """An app that first serves `collection`, whose version is verified, and follows the store's champion.

    Raises ConfigError if the key file cannot be used.
    """
    first = [collection]  # emptied at the start, so that nothing keeps a version alive that another one replaced

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lifecycle("started")
        app.state.serving = Serving(settings, first.pop(), app.state.metrics, app.state.health)
        yield
        await app.state.serving.close()
        first.append(app.state.serving.current.collection)
        lifecycle("stopped")

    app = FastAPI(
        telemetry=telemetry(settings.tracing),
        title="Lookalike",
        version=metadata.version("lookalike"),
        description="Find the items that are most similar to a query, in the latent space of an autoencoder.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # a guarded route of service.api.routes
    )
    app.state.settings = settings
    app.state.budget = Budget(settings.bytes_in_flight)
    app.state.health = Health()
    app.state.keys = KeyRing.of(settings)
    app.state.metrics = Metrics(DriftWatch(settings.store / FOLDER, settings.drift_once_in))
    for router in (health, guarded, items, items_written, admin):
        app.include_router(router)
    install_handlers(app)
    _add_layers(app, settings)
    return app


def _add_layers(app: FastAPI, settings: Settings) -> None:
    """Put the service's middleware around the framework's, so that requests on the fast path are counted too."""
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_BYTES, compresslevel=GZIP_LEVEL)
    if settings.tracing:
        app.add_middleware(PrivateSpans)
    layers: ASGIApp = app.build_middleware_stack()
    if not settings.tracing:  # FastAPI creates its spans in its router
        layers = FastPath(layers, guarded, ("/embed", "/search"))
    app.middleware_stack = MetricsMiddleware(allow_origins(layers, settings), app.state.metrics)
