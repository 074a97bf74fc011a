"""Drop superseded changes of the change log and shrink its file, in small steps: a writer waits some milliseconds.

After each transaction SQLite moves its pages from the -wal into items.db. So the -wal stays small on a disk that is
nearly full, and the next step can use the space.
"""

import contextlib
import time
from collections.abc import Iterator

import apsw

from lookalike.index.changes.log_file import CHANGES
from lookalike.index.changes.sqlite import first_value, transaction

__all__ = ["add_to_note", "drop_superseded", "free_pages"]

STEP = 64  # Changes that are dropped, and pages of 4 KiB that are freed, in one step
_SUPERSEDED = (
    "SELECT sequence FROM changes WHERE sequence > ?1 AND sequence < ?2 AND EXISTS (SELECT 1 FROM changes AS later "
    "WHERE later.id = changes.id AND later.sequence > changes.sequence AND later.sequence <= ?2) "
    "ORDER BY sequence LIMIT ?3"
)


def drop_superseded(connection: apsw.Connection, after: int, upto: int) -> int:
    """Drop each change after `after` that a later change of its id, up to `upto`, superseded; return their number."""
    dropped = 0
    # The query needs no transaction: a superseded change stays superseded.
    while sequences := [row[0] for row in connection.execute(_SUPERSEDED, (after, upto, STEP))]:
        with _step(connection):
            before = connection.total_changes()
            connection.executemany("DELETE FROM changes WHERE sequence = ?", [(sequence,) for sequence in sequences])
            deleted = connection.total_changes() - before  # another process may have deleted some
            add_to_note(connection, CHANGES, -deleted)
        dropped += deleted
        after = sequences[-1]
    return dropped


def free_pages(connection: apsw.Connection) -> None:
    """Give free pages back to the file system."""
    while free := int(first_value(connection, "PRAGMA freelist_count")):
        with _step(connection):
            list(connection.execute(f"PRAGMA incremental_vacuum({STEP})"))
        if int(first_value(connection, "PRAGMA freelist_count")) >= free:  # another process frees as many
            break


def add_to_note(connection: apsw.Connection, note: str, more: int) -> None:
    """Add to a note that is a number."""
    if more:
        connection.execute("UPDATE notes SET text = CAST(text AS INTEGER) + ?2 WHERE key = ?1", (note, more))


@contextlib.contextmanager
def _step(connection: apsw.Connection) -> Iterator[None]:
    """Run a transaction, then pause as long as it took, so that other processes can write."""
    started = time.monotonic()
    with transaction(connection):
        yield
    with contextlib.suppress(apsw.BusyError):  # another process makes a checkpoint
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)  # does not wait for readers
    time.sleep(time.monotonic() - started)
