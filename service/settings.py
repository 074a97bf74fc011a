"""All settings of the service; only this module reads its environment variables."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lookalike.index.drift.detector import ONCE_IN
from lookalike.index.limits import MAX_LIMIT
from lookalike.service.observability.logs import LogLevel
from lookalike.service.resources import cores, memory_bytes
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ConfigError

__all__ = ["Settings", "load_settings"]

Positive = Annotated[int, Field(ge=1)]
BODIES_SHARE = 1 / 16
"""The share of the memory for the request bodies of all workers."""


def _split(value: Any) -> Any:
    """A list from an environment variable, in which commas separate the elements."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_origin(origin: str) -> str:
    if not re.fullmatch(r"\*|https?://[^/\s*]+", origin):
        raise PydanticCustomError("origin", "Input should be origins such as https://example.org, without a path, or *")
    return origin


Origin = Annotated[str, AfterValidator(_check_origin)]


class Settings(BaseSettings):
    """Set by the command line, or by environment variables such as LOOKALIKE_HOST and LOOKALIKE_API_KEY."""

    model_config = SettingsConfigDict(env_prefix="LOOKALIKE_", frozen=True, extra="forbid")

    store: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    api_key: SecretStr | None = None
    """A key that may write, sent in X-API-Key or as a bearer token. Without any key only loopback is served."""
    keys: Path | None = None
    """A file of more keys, written by `lookalike keys`; read again when it changes."""
    tls_cert: Path | None = None
    """A PEM file with the certificate and its intermediate certificates; with tls_key, the service speaks HTTPS."""
    tls_key: Path | None = None
    """A PEM file with the certificate's private key, without a passphrase."""
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split)] = ()
    """The origins whose web pages may call the service, such as https://example.org; * allows all."""
    device: DeviceName = "auto"
    max_body_bytes: Positive = 64 << 20
    max_bytes_in_flight: Positive | None = None
    """Bytes of request bodies that one worker may hold; further calls get 503. By default a sixteenth of the memory of
    the machine or the control group, shared among the workers, and at least `max_body_bytes`."""
    max_rows: Positive = 4_096
    """Rows, embeddings or ids in one call."""
    max_pixels: Positive = 50_000_000
    """Pixels of one photo, by the size in its head, before it is decoded; decoding takes about 12 bytes for each."""
    max_limit: Annotated[int, Field(ge=1, lt=MAX_LIMIT)] = 1_000
    """Hits of one query."""
    max_hits: Positive = 100_000
    """Hits in one answer: queries times limit."""
    max_answer_bytes: Positive = 64 << 20
    """Bytes that the hits of one search may have, with their payloads; checked by an estimate."""
    max_connections: Positive = 4_096
    max_waiting: Positive = 16_384
    """Rows that may wait; further calls get 429."""
    deadline_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """How long a call may take after its body has arrived."""
    body_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """How long a client may take to send a body."""
    stop_seconds: Positive = 10
    """How long accepted work may take after SIGTERM."""
    workers: Positive = 1
    """Worker processes; they share one port and one copy of the version's files."""
    threads: Positive | None = None
    """Torch threads of each worker; by default the cores, shared among the workers. FAISS uses one thread for a batch,
    so that torch and FAISS do not compete for cores."""
    compact_share: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """Share of a version's items that may be new, replaced or deleted before a compaction; 0 means no compaction."""
    keep_versions: Positive = 10
    """Versions that a compaction keeps, including the next versions that `rollback` reaches."""
    drift_once_in: Annotated[float, Field(gt=1, allow_inf_nan=False)] = ONCE_IN
    """Normal queries per false drift alarm, on average at least."""
    log_level: LogLevel = "warning"
    """The least level that is logged; info includes each request. Lifecycle events are always logged."""
    tracing: bool = False
    """Create OpenTelemetry spans, and export them by OTEL_EXPORTER_OTLP_ENDPOINT and related variables."""

    @property
    def bytes_in_flight(self) -> int:
        share = BODIES_SHARE * memory_bytes() / self.workers
        return self.max_bytes_in_flight or max(self.max_body_bytes, int(share))

    @property
    def torch_threads(self) -> int:
        """Torch threads of one worker; by default, workers times threads do not exceed the cores."""
        return self.threads or max(1, cores() // self.workers)


def load_settings(**options: object) -> Settings:
    """The settings: the options override the environment, and the environment overrides the defaults.

    Raises ConfigError if a value is mistyped, out of range, or not allowed together with another value.
    """
    try:
        settings = Settings(**options)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        expected = first["msg"].removeprefix("Input should be ")
        raise ConfigError(str(first["loc"][0]), expected=expected, found=repr(first["input"])) from error
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    if not (_is_loopback(settings.host) or settings.api_key or settings.keys):
        expected = "a loopback address, or an API key for any other address"
        found, remedy = f"{settings.host} and no key", "Set LOOKALIKE_API_KEY, or LOOKALIKE_KEYS."
        raise ConfigError("host", expected=expected, found=found, remedy=remedy)
    if bool(settings.tls_cert) != bool(settings.tls_key):
        present, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
        raise ConfigError(missing, expected=f"a file, because {present} is set", found="no file")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
