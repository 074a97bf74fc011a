"""The application: one version, its engine, the routes, and one path for errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI

import service
from index.version import Version
from service.columns import TableInputs
from service.decoding import Bounds
from service.engine import Engine
from service.errors import install_handlers
from service.logs import lifecycle
from service.metrics import Metrics, MetricsMiddleware
from service.routes import guarded, health
from service.settings import Settings
from service.tracing import PrivateSpans, telemetry

__all__ = ["create_app"]


def create_app(settings: Settings, version: Version) -> FastAPI:
    """An app that answers from `version`, which is open and verified."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = Engine(version, settings.threads)
        lifecycle("started", version=version.number, items=len(version.items))
        yield
        lifecycle("stopped")
        app.state.engine.close()

    app = FastAPI(
        telemetry=telemetry(settings.tracing),
        title="Lookalike",
        version=metadata.version("lookalike"),
        description=service.__doc__ or "",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.bounds = Bounds(
        version.encoder.input_shape,
        version.encoder.latent_dim,
        max_rows=settings.max_rows,
        max_limit=settings.max_limit,
        max_hits=settings.max_hits,
        table=TableInputs.of(version.encoder),
    )
    app.state.metrics = Metrics()
    app.state.metrics.serving(version.number, len(version.items))
    if settings.tracing:
        app.add_middleware(PrivateSpans)
    app.add_middleware(MetricsMiddleware, metrics=app.state.metrics)
    app.include_router(health)
    app.include_router(guarded)
    install_handlers(app)
    return app
