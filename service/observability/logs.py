"""Logs: one JSON object per line on standard error, without rows, ids, filters, payloads and keys.

An exception is logged by its type and the lines of its traceback; its message may quote a client's values.
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
"""The key of a request's scope that holds its note."""
_PROCESS, _numbers = secrets.token_hex(8), itertools.count()
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_LOGGED = "logged"
_LONGEST = 300
_requests = logging.getLogger("lookalike.requests")
_failures = logging.getLogger("lookalike.service")
_events = logging.getLogger("lookalike.events")


@dataclass(slots=True)
class Note:
    """The log fields of one request; its route sets how many rows or queries were answered, and by which version."""

    request_id: str
    rows: int = 0
    version: int | None = None


def noted(scope: Scope) -> Note:
    """The note of a request, created if missing."""
    note: Note = scope.get(NOTE) or scope.setdefault(NOTE, Note(request_id(scope["headers"])))
    return note


def record_answer(scope: Scope, rows: int, version: int) -> None:
    """Note how many rows or queries were answered, and by which version, for metrics and logs."""
    note = noted(scope)
    note.rows, note.version = rows, version


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """X-Request-Id if it is 1 to 128 of A-Z a-z 0-9 . _ -, else 32 unique hexadecimal digits."""
    for name, value in headers:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return value.decode("ascii")
    return f"{_PROCESS}{next(_numbers):016x}"


def log_request(scope: Scope, note: Note, *, route: str, status: int, seconds: float) -> None:
    """Log an answered request, at level info; at level warning if the service failed on it."""
    level = logging.WARNING if status >= 500 else logging.INFO
    if not _requests.isEnabledFor(level):
        return
    fields = {"request_id": note.request_id, "method": scope["method"], "route": route, "status": status}
    fields |= {"ms": round(1_000 * seconds, 3), "rows": note.rows, "version": note.version}
    fields |= {"key": scope.get("state", {}).get("key_name"), "client": (scope.get("client") or [None])[0]}
    _requests.log(level, "request", extra={"fields": fields})


def log_failure(scope: Scope, error: Exception) -> None:
    """Log an unexpected exception; uvicorn's own line for the same exception is dropped."""
    route = getattr(scope.get("route"), "path", None)
    fields = {"request_id": noted(scope).request_id, "method": scope["method"], "route": route}
    _failures.error("unhandled error", exc_info=error, extra={"fields": fields})
    error.add_note(_LOGGED)


def lifecycle(event: str, **fields: str | int | float | None) -> None:
    """Log an event of the service itself at every level: start, change of version, stop."""
    _events.info(event, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """Formats the records of the service and of all libraries."""

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
    """Write all logs of this process from `level` on, also uvicorn's and asyncio's, to standard error.

    Libraries log from level warning on; lifecycle events are always logged.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_is_not_logged)
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    for name in ("lookalike", "uvicorn"):
        logging.getLogger(name).setLevel(number)
    _events.setLevel(logging.INFO)


def _is_not_logged(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return _LOGGED not in getattr(error, "__notes__", ())


def _event(message: str) -> str:
    """The first line of a message, because asyncio quotes arguments in the others; of a traceback the last line."""
    lines = message.strip().splitlines() or [""]
    return lines[-1 if lines[0].startswith("Traceback") else 0][:_LONGEST]


def _trace(error: BaseException) -> list[str]:
    """The chain of exceptions, the first cause first, each with the lines of its traceback."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    return [*(_trace(cause) if cause else []), type(error).__name__, *lines]
