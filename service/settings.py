"""Every setting of the service, declared once; its environment is read here and nowhere else."""

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
"""Of the memory, for the request bodies of all workers."""


def _split(given: Any) -> Any:
    """The environment has no lists: there, commas part them."""
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


def _check_origin(origin: str) -> str:
    if not re.fullmatch(r"\*|https?://[^/\s*]+", origin):
        raise PydanticCustomError("origin", "Input should be origins as https://example.org, without a path, or *")
    return origin


Origin = Annotated[str, AfterValidator(_check_origin)]


class Settings(BaseSettings):
    """Set by the command line, or by the environment as LOOKALIKE_HOST, LOOKALIKE_API_KEY, ..."""

    model_config = SettingsConfigDict(env_prefix="LOOKALIKE_", frozen=True, extra="forbid")

    store: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    api_key: SecretStr | None = None
    """Asked for in the header X-API-Key, or as a bearer token; may write. Without any key only loopback is served."""
    keys: Path | None = None
    """A file of more keys, as `lookalike keys` writes it; read again when it changes."""
    tls_cert: Path | None = None
    """A PEM file with the certificate and those between it and the root; with tls_key, HTTPS is served."""
    tls_key: Path | None = None
    """A PEM file with the certificate's private key, without a passphrase."""
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split)] = ()
    """Whose web pages a browser lets call the service, as https://example.org; * is everyone's."""
    device: DeviceName = "auto"
    max_body_bytes: Positive = 64 << 20
    max_bytes_in_flight: Positive | None = None
    """Bytes of request bodies that one worker may hold; calls beyond that get 503. By default a sixteenth of the memory
    of the machine or the control group, shared among the workers, and at least `max_body_bytes`."""
    max_rows: Positive = 4_096
    """Rows, embeddings or ids in one call."""
    max_limit: Annotated[int, Field(ge=1, lt=MAX_LIMIT)] = 1_000
    """Hits a query may ask for."""
    max_hits: Positive = 100_000
    """Hits in one answer: queries times limit."""
    max_answer_bytes: Positive = 64 << 20
    """About how many bytes the hits of one search may have, with their payloads."""
    max_connections: Positive = 4_096
    max_waiting: Positive = 16_384
    """Rows that may wait for their turn; of more, calls are refused with 429."""
    deadline_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """How long a call may take from when its body is there."""
    body_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """How long a client may take to send a body."""
    stop_seconds: Positive = 10
    """How long accepted work may take after SIGTERM."""
    workers: Positive = 1
    """Processes that share one port and one copy of the version's files."""
    threads: Positive | None = None
    """For torch in each worker; without, the cores that there are, shared among the workers. FAISS answers a batch with
    one thread, so that the two never fight for the same cores."""
    compact_share: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """Of a version's items, the share that may be new, replaced or deleted before a new version is made; 0: none is."""
    keep_versions: Positive = 10
    """Versions that stay when one was made so; those that `rollback` reaches next are among them."""
    drift_once_in: Annotated[float, Field(gt=1, allow_inf_nan=False)] = ONCE_IN
    """Normal queries to a false alarm of drift, on average at least."""
    log_level: LogLevel = "warning"
    """From where on is logged; info tells each request. The lifecycle is always told."""
    tracing: bool = False
    """Make OpenTelemetry spans, and export them as OTEL_EXPORTER_OTLP_ENDPOINT and its like say."""

    @property
    def bytes_in_flight(self) -> int:
        """The budget of one worker for request bodies."""
        share = BODIES_SHARE * memory_bytes() / self.workers
        return self.max_bytes_in_flight or max(self.max_body_bytes, int(share))

    @property
    def torch_threads(self) -> int:
        """Where they are not set, workers times threads are no more than the cores."""
        return self.threads or max(1, cores() // self.workers)


def load_settings(**given: object) -> Settings:
    """What is given, over the environment, over the defaults.

    Raises:
        ConfigError: a value is mistyped or out of range, or does not go with another.
    """
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise ConfigError(
            field, expected=first["msg"].removeprefix("Input should be "), found=repr(first["input"])
        ) from error
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    if not (_is_loopback(settings.host) or settings.api_key or settings.keys):
        raise ConfigError(
            "host",
            expected="a loopback address, or an API key for any other",
            found=f"{settings.host} and no key",
            remedy="Set LOOKALIKE_API_KEY, or LOOKALIKE_KEYS.",
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        there, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
        raise ConfigError(missing, expected=f"a file, as {there} is set", found="none")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
