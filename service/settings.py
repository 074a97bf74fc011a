"""Every setting of the service, declared once; its environment is read here and nowhere else."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from index.vectors import MAX_LIMIT
from service.logs import LogLevel
from training.artifact import DeviceName
from training.errors import ConfigError

__all__ = ["Settings", "load_settings"]

Positive = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """Set by the command line, or by the environment as LOOKALIKE_HOST, LOOKALIKE_API_KEY, ..."""

    model_config = SettingsConfigDict(env_prefix="LOOKALIKE_", frozen=True, extra="forbid")

    store: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    api_key: SecretStr | None = None
    """Asked for in the header X-API-Key, or as a bearer token. Without one only loopback may be served."""
    device: DeviceName = "auto"
    max_body_bytes: Positive = 64 << 20
    max_rows: Positive = 4_096
    """Rows, embeddings or ids in one call."""
    max_limit: Annotated[int, Field(ge=1, lt=MAX_LIMIT)] = 1_000
    """Hits a query may ask for."""
    max_hits: Positive = 100_000
    """Hits in one answer: queries times limit."""
    max_connections: Positive = 1_024
    body_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """How long a client may take to send a body."""
    stop_seconds: Positive = 10
    """How long accepted work may take after SIGTERM."""
    threads: Positive = len(os.sched_getaffinity(0))
    """For torch; FAISS answers a batch with one, so that the two never fight for the same cores."""
    log_level: LogLevel = "warning"
    """From where on is logged; info tells each request. The lifecycle is always told."""
    tracing: bool = False
    """Make OpenTelemetry spans, and export them as OTEL_EXPORTER_OTLP_ENDPOINT and its like say."""


def load_settings(**given: object) -> Settings:
    """What is given, over the environment, over the defaults.

    Raises:
        ConfigError: a value is mistyped or out of range, or an address other than loopback without a key.
    """
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise ConfigError(
            field, expected=first["msg"].removeprefix("Input should be "), found=repr(first["input"])
        ) from error
    if not _is_loopback(settings.host) and not (settings.api_key and settings.api_key.get_secret_value()):
        raise ConfigError(
            "host",
            expected="a loopback address, or an API key for any other",
            found=f"{settings.host} and no key",
            remedy="Set LOOKALIKE_API_KEY.",
        )
    return settings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
