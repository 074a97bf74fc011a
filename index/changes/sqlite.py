"""SQLite as the change log uses it: connections that keep what they were told they kept, and whole transactions."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

__all__ = ["connected", "is_frozen", "one", "stamp_of", "transaction"]

WAIT_MS = 30_000
"""How long one writer waits for another, which takes some milliseconds at a time."""
WAL_BYTES = 1 << 24
"""SQLite truncates its write-ahead log to this size after a checkpoint."""


def connected(path: Path) -> apsw.Connection:
    """Open a database that is there.

    Raises:
        apsw.Error: it cannot be opened, or is none.
    """
    if is_frozen(path):
        address = f"{path.resolve().as_uri()}?immutable=1"
        return apsw.Connection(address, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(WAIT_MS)
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    return connection


def is_frozen(path: Path) -> bool:
    """Can it be read only as a file that nobody changes? SQLite's log needs files beside it, even to be read.

    So it is where this process may not write, and no other one has it open.
    """
    return path.exists() and not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()


def stamp_of(path: Path) -> tuple[int, ...]:
    """What changes with the file itself."""
    told = path.stat()
    return told.st_ino, told.st_size, told.st_mtime_ns


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Ours from the beginning: one that first reads and then writes may be refused in between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def one(connection: apsw.Connection, query: str, *values: Any) -> Any:
    """The first value of the first row; None where there is none."""
    return next((row[0] for row in connection.execute(query, values)), None)
