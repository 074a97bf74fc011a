"""What happened, one JSON object a line on standard error: never a row, an id, a filter, a payload or a key.

Of an exception that is its type and where it was raised; its message may quote what a client sent.
"""

import itertools
import logging
import re
import secrets
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from starlette.types import Scope

__all__ = [
    "NOTE",
    "JsonFormatter",
    "LogLevel",
    "Note",
    "configure",
    "lifecycle",
    "log_failure",
    "log_request",
    "noted",
    "record_answer",
    "request_id",
]

LogLevel = Literal["debug", "info", "warning", "error"]

NOTE = "lookalike.note"
"""Where a request's scope has its note."""
_PROCESS, _numbers = secrets.token_hex(8), itertools.count()
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TOLD = "logged"
_LONGEST = 300
_requests = logging.getLogger("lookalike.requests")
_failures = logging.getLogger("lookalike.service")
_events = logging.getLogger("lookalike.events")


@dataclass(slots=True)
class Note:
    """What is told of one request; who answers it fills in how many rows or queries, and of which version."""

    request_id: str
    rows: int = 0
    version: int | None = None


def noted(scope: Scope) -> Note:
    """The note of a request, to read or to fill in."""
    note: Note = scope.get(NOTE) or scope.setdefault(NOTE, Note(request_id(scope["headers"])))
    return note


def record_answer(scope: Scope, rows: int, version: int) -> None:
    """Note how many rows or queries were answered, and by which version, for metrics and logs."""
    note = noted(scope)
    note.rows, note.version = rows, version


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """X-Request-Id where it is 1 to 128 of A-Z a-z 0-9 . _ -, else 32 hexadecimal digits that no other request has."""
    for name, value in headers:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return value.decode("ascii")
    return f"{_PROCESS}{next(_numbers):016x}"


def log_request(scope: Scope, note: Note, *, route: str, status: int, seconds: float) -> None:
    """One line of an answered request: at level info, or warning where the service failed on it."""
    level = logging.WARNING if status >= 500 else logging.INFO
    if not _requests.isEnabledFor(level):
        return
    fields = {
        "request_id": note.request_id,
        "method": scope["method"],
        "route": route,
        "status": status,
        "ms": round(1_000 * seconds, 3),
        "rows": note.rows,
        "version": note.version,
        "key": scope.get("state", {}).get("key_name"),
        "client": (scope.get("client") or [None])[0],
    }
    _requests.log(level, "request", extra={"fields": fields})


def log_failure(scope: Scope, error: Exception) -> None:
    """One line of an exception that nobody foresaw; uvicorn's own of the same exception is left out."""
    route = getattr(scope.get("route"), "path", None)
    fields = {"request_id": noted(scope).request_id, "method": scope["method"], "route": route}
    _failures.error("unhandled error", exc_info=error, extra={"fields": fields})
    error.add_note(_TOLD)


def lifecycle(event: str, **fields: str | int | float | None) -> None:
    """One line of what happens to the service itself, whatever the level is: it starts, changes its version, stops."""
    _events.info(event, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """Ours and everyone else's records, of one form."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "event": _event(record.getMessage()),
            "logger": record.name,
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            line |= {"error": type(record.exc_info[1]).__name__, "trace": _trace(record.exc_info[1])}
        return orjson.dumps(line, default=str).decode()


def configure(level: LogLevel) -> None:
    """Send what this process logs, uvicorn's and asyncio's included, to standard error; from `level` on.

    Libraries tell warnings and worse; the service's lifecycle is always told.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_is_news)
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    for name in ("lookalike", "uvicorn"):
        logging.getLogger(name).setLevel(number)
    _events.setLevel(logging.INFO)


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return _TOLD not in getattr(error, "__notes__", ())


def _event(message: str) -> str:
    """A line: of several the first, for asyncio quotes arguments in the others; of a traceback the last."""
    lines = message.strip().splitlines() or [""]
    return lines[-1 if lines[0].startswith("Traceback") else 0][:_LONGEST]


def _trace(error: BaseException) -> list[str]:
    """The exceptions that led here, the first one first, each with the lines that it came through."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    return [*(_trace(cause) if cause else []), type(error).__name__, *lines]
