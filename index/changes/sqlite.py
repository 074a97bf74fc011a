"""SQLite as the change log uses it: durable connections and transactions that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

__all__ = ["connected", "first_value", "is_frozen", "stamp_of", "transaction"]

WAIT_MS = 30_000
"""How long a writer waits for another writer, which holds the lock for some milliseconds at a time."""
WAL_BYTES = 1 << 24  # SQLite truncates its write-ahead log to this size after a checkpoint


def connected(path: Path) -> apsw.Connection:
    """Open an existing database. Raises apsw.Error if it cannot be opened, or is no database."""
    if is_frozen(path):
        address = f"{path.resolve().as_uri()}?immutable=1"
        return apsw.Connection(address, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(WAIT_MS)
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    return connection


def is_frozen(path: Path) -> bool:
    """Whether this process cannot write the database and no other process has it open.

    Such a database is opened as immutable, because SQLite needs files beside it even to read it.
    """
    return path.exists() and not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()


def stamp_of(path: Path) -> tuple[int, ...]:
    """Return a value that changes with the file."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Write in a transaction that locks at its start: if it read first, SQLite could refuse to write later."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def first_value(connection: apsw.Connection, query: str, *values: Any) -> Any:
    """Return the first value of the first row; None if there is no row."""
    return next((row[0] for row in connection.execute(query, values)), None)
