"""Gives space of the item log back, in steps, so that whoever writes meanwhile waits some milliseconds at most.

Each step is a transaction, whose pages SQLite then moves out of its -wal: on a disk that is nearly full the -wal stays
small, and what a step frees is there for the next one.
"""

import time
from collections.abc import Callable, Iterator

import apsw

from index.logfile import DROPPED
from index.sqlite import one, transaction

__all__ = ["add_to_note", "drop_superseded", "free_pages"]

STEP = 256
"""Changes that are dropped, and pages of 4 KiB that are freed, at a time."""
_SUPERSEDED = (
    "SELECT sequence FROM changes WHERE sequence > ?1 AND sequence < ?2 AND EXISTS (SELECT 1 FROM changes AS later "
    "WHERE later.id = changes.id AND later.sequence > changes.sequence AND later.sequence <= ?2) "
    "ORDER BY sequence LIMIT ?3"
)


def drop_superseded(connection: apsw.Connection, upto: int) -> int:
    """Drop each change that a later one of the same id, up to `upto`, superseded; returns how many."""
    dropped = 0
    for sequences in _superseded(connection, upto):

        def drop(some: list[int] = sequences) -> int:
            before = connection.total_changes()
            connection.executemany("DELETE FROM changes WHERE sequence = ?", ((one,) for one in some))
            gone = connection.total_changes() - before  # another process may have been faster
            add_to_note(connection, DROPPED, gone)
            return gone

        dropped += _step(connection, drop)
    return dropped


def free_pages(connection: apsw.Connection) -> None:
    """Give the pages that are free back to the file system."""
    while free := int(one(connection, "PRAGMA freelist_count")):
        _step(connection, lambda: len(list(connection.execute(f"PRAGMA incremental_vacuum({STEP})"))))
        if int(one(connection, "PRAGMA freelist_count")) >= free:  # whoever else writes frees as many
            break
    _checkpoint(connection)


def add_to_note(connection: apsw.Connection, note: str, more: int) -> None:
    """Add to a note that is a number."""
    if more:
        connection.execute("UPDATE notes SET text = CAST(text AS INTEGER) + ?2 WHERE key = ?1", (note, more))


def _superseded(connection: apsw.Connection, upto: int) -> Iterator[list[int]]:
    """Outside of the transactions that drop them: what was superseded stays so."""
    after = 0
    while found := [row[0] for row in connection.execute(_SUPERSEDED, (after, upto, STEP))]:
        yield found
        after = found[-1]


def _step(connection: apsw.Connection, work: Callable[[], int]) -> int:
    """A transaction, and a pause as long as it took, in which others write."""
    started = time.monotonic()
    with transaction(connection):
        done = work()
    _checkpoint(connection)
    time.sleep(time.monotonic() - started)
    return done


def _checkpoint(connection: apsw.Connection) -> None:
    """What can be moved without waiting for anybody."""
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
