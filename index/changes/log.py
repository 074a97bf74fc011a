"""The change log: every accepted change of an item, durable before it is acknowledged.

STORE/items.db   SQLite: a row for each change, ordered by sequence numbers, which are never used twice

It uses the write-ahead log with synchronous=FULL (https://sqlite.org/wal.html): a transaction is on disk when `append`
returns, and readers and the writer, also of other processes, do not wait for each other. The SQLite is apsw's, not
Python's, because several versions before 3.51.3 can damage such a log.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from lookalike.index.changes.change import Change, DamagedError, change_of, rising, row_of
from lookalike.index.changes.inputs import unpack
from lookalike.index.changes.log_file import BEGINS, CHANGES, IDS, LOG, LogFiles, check_format, log_exists, make_log
from lookalike.index.changes.reclaim import add_to_note, drop_superseded, free_pages
from lookalike.index.changes.sqlite import connected, first_value, is_frozen, stamp_of, transaction
from lookalike.index.errors import JobError, LogError
from lookalike.index.items.ids import check_ids
from lookalike.index.items.integers import INT64_MAX
from lookalike.training.errors import ArtifactError, DataError
from lookalike.training.sealed import sync_folder

__all__ = ["LOG", "ChangeLog", "LogSize", "Note"]

BATCH = 1_024  # Changes that are read at a time
_LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'"
_NOTE = "SELECT text FROM notes WHERE key = ?"
_COUNTS = "SELECT sum(text) FILTER (WHERE key = ?1), sum(text) FILTER (WHERE key = ?2) FROM notes"
_CHANGED = "SELECT 1 FROM changes WHERE id = ? AND sequence > ? LIMIT 1"
_KNOWN = "SELECT 1 FROM changes WHERE id = ? LIMIT 1"
_LATEST = (  # NOT INDEXED, because SQLite does not notice if the index is damaged and differs from the table
    "WHERE sequence IN (SELECT max(sequence) FROM changes NOT INDEXED "
    "WHERE sequence > ?1 AND sequence <= ?2 GROUP BY id) ORDER BY sequence"
)


@dataclass(frozen=True)
class LogSize:
    """The bytes of a log's files, the number of changes, and how many of them a later change of the item superseded."""

    bytes: int
    changes: int
    superseded: int


@dataclass(frozen=True)
class Note:
    """A text that the log stores under a key; `before` is the key's text when the caller read it, or None."""

    key: str
    text: str
    before: str | None = None


class ChangeLog:
    """The log of one store; call it from one thread at a time. The first change creates the file.

    Each call raises LogError if the log cannot be written or read, for example on a full disk: then nothing of the call
    was written. Each call raises ArtifactError if the log is damaged, or the file is no log.
    """

    def __init__(self, store: Path) -> None:
        self._folder = store
        self._path = store / LOG
        self._opened: apsw.Connection | None = None
        self._seen: int | None = None
        self._width: int | None = None
        self._is_named = False
        self._frozen: tuple[int, ...] | None = None
        self._files: LogFiles | None = None
        self._is_displaced = False

    def append(self, changes: Sequence[Change], note: Note | None = None) -> int:
        """Add changes, all or none; they are on disk when this returns. Return the last sequence number.

        The note is stored in the same transaction, and replaces the text of its key. Raises DataError for inputs of
        another length than the log's, or an invalid id, and JobError if the note was changed after the caller read it.
        Then nothing is written.
        """
        written = self.append_each(changes, note)
        return written[-1] if written else self.last()

    def append_each(self, changes: Sequence[Change], note: Note | None = None) -> list[int]:
        """Add changes as `append` does, but skip each change whose item has changed after `seen`.

        Returns each change's sequence number; 0 if it was skipped. The comparison and the write are one transaction, so
        no other process can write in between.
        """
        check_ids([change.id for change in changes if not change.is_delete], self._path.name)
        with self._translating_errors("written"):
            if not self._opened and not log_exists(self._path):
                make_log(self._folder)
            connection = self._open()
            if not self._is_named:  # the process that made the file may have failed before its name was on disk
                sync_folder(self._folder)
                self._is_named = True
            with transaction(connection):
                self._check_width(changes)
                last, written, new = int(first_value(connection, _LAST) or 0), list[int](), 0
                for change in changes:
                    if change.seen is not None and first_value(connection, _CHANGED, change.id, change.seen):
                        written.append(0)
                        continue
                    last += 1
                    new += first_value(connection, _KNOWN, change.id) is None
                    connection.execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)", row_of(last, change))
                    written.append(last)
                add_to_note(connection, CHANGES, sum(map(bool, written)))
                add_to_note(connection, IDS, new)
                if note:
                    self._store(connection, note)
            self._check_places()  # else this could acknowledge a change in a file that no process finds again
        return written

    def last(self) -> int:
        """Return the last sequence number; 0 before the first change."""
        return int(self._value(_LAST) or 0)

    def width(self) -> int | None:
        """Return the number of values of an input; None if there is no input."""
        if self._width is None:  # it never changes
            blob = self._value("SELECT input FROM changes WHERE input IS NOT NULL ORDER BY sequence LIMIT 1")
            self._width = None if blob is None else len(unpack(blob))
        return self._width

    def begins(self) -> int:
        """Return the number before the first change: 0, or the last change of a lost log that a version includes."""
        return int(self.note(BEGINS) or 0)

    def note(self, key: str) -> str | None:
        """Return the text that is stored under a key."""
        return None if (text := self._value(_NOTE, key)) is None else str(text)

    def read(self, after: int, most: int = BATCH) -> list[Change]:
        """Return the next changes after a sequence number, in order."""
        with self._translating_errors("read"):
            return rising(list(self._changes("WHERE sequence > ? ORDER BY sequence LIMIT ?", after, most)), after)

    def current(self, after: int = 0, upto: int | None = None) -> Iterator[list[Change]]:
        """Yield the latest change of each id in (after, upto], in order, in batches of one snapshot of the log."""
        with self._translating_errors("read"):
            found = self._changes(_LATEST, after, self.last() if upto is None else upto)
            while changes := rising(list(islice(found, BATCH)), after):
                yield changes
                after = changes[-1].sequence

    def find(self, name: str, upto: int | None = None) -> Change | None:
        """Return the last change of an id, up to a sequence number; None if there is none."""
        where = "WHERE id = ? AND sequence <= ? ORDER BY sequence DESC LIMIT 1"
        with self._translating_errors("read"):
            return next(self._changes(where, name, INT64_MAX if upto is None else upto), None)

    def moved(self) -> bool:
        """Whether another process or another ChangeLog wrote since the last call; takes some microseconds."""
        before, self._seen = self._seen, self._value("PRAGMA data_version")
        return self._seen != before

    def size(self) -> LogSize:
        """Return the size of the log; this reads no changes."""
        with self._translating_errors("read"):
            connection = self._connection()
            if connection is None or self._files is None:
                return LogSize(0, 0, 0)
            changes, ids = next(connection.execute(_COUNTS, (CHANGES, IDS)))
            if changes is None or ids is None:
                raise DamagedError("no count of the changes, or of the ids")
            return LogSize(self._files.bytes, int(changes), int(changes - ids))

    def prune(self, states: Iterable[int] = ()) -> int:
        """Drop the superseded changes, and give their space back to the file system; return how many were dropped.

        `states` are sequence numbers up to which `current` must still be able to read: the last change of each id up to
        one of them is kept. Other processes can read and write in the meantime. After an error, what was dropped before
        stays dropped.
        """
        with self._translating_errors("written"):
            connection = self._connection()
            if connection is None:
                return 0
            after, dropped, last = 0, 0, int(first_value(connection, _LAST) or 0)
            for upto in sorted({last, *(min(state, last) for state in states if state > 0)}):
                dropped += drop_superseded(connection, after, upto)
                after = upto
            free_pages(connection)
            return dropped

    def close(self) -> None:
        opened, self._opened, self._frozen, self._seen = self._opened, None, None, None
        if opened:
            with self._translating_errors("closed"):
                opened.close()

    def _check_width(self, changes: Sequence[Change]) -> None:
        wanted = self.width()
        for change in changes:
            if change.input is not None:
                wanted = len(change.input) if wanted is None else wanted
                if len(change.input) != wanted:
                    expected = f"{wanted} values, like the items in {self._path.name}"
                    raise DataError(f"id {change.id!r}", expected, found=str(len(change.input)))

    def _store(self, connection: apsw.Connection, note: Note) -> None:
        if first_value(connection, _NOTE, note.key) != note.before:
            remedy = "Wait until the other job has ended, then start this job again."
            raise JobError(note.key, expected="one job at a time", found="another job that wrote", remedy=remedy)
        connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (note.key, note.text))

    def _value(self, query: str, *values: Any) -> Any:
        with self._translating_errors("read"):
            connection = self._connection()
            return None if connection is None else first_value(connection, query, *values)

    def _changes(self, where: str, *values: Any) -> Iterator[Change]:
        connection = self._connection()
        query = f"SELECT sequence, id, input, payload, preview, digest FROM changes {where}"
        return map(change_of, () if connection is None else connection.execute(query, values))

    def _connection(self) -> apsw.Connection | None:
        """Return the open log; None if there is no log."""
        if self._frozen and not (is_frozen(self._path) and stamp_of(self._path) == self._frozen):
            self.close()  # another user writes
        return self._open() if self._opened or log_exists(self._path) else None

    def _open(self) -> apsw.Connection:
        if self._opened is None:
            frozen = stamp_of(self._path) if is_frozen(self._path) else None
            opened = connected(self._path)
            check_format(opened, self._path)
            self._opened, self._frozen, self._files = opened, frozen, LogFiles(self._path)
        elif not self._frozen:
            self._check_places()
        return self._opened

    def _check_places(self) -> None:
        if self._files is None or self._opened is None:
            return
        try:
            self._files.check()
        except LogError:
            # If only items.db was replaced, empty the -wal: the next process would replay it into the new file. Only
            # once, because another process may write its own changes to that -wal later.
            if not self._is_displaced and self._files.is_replaced:
                with contextlib.suppress(apsw.Error):
                    self._opened.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._is_displaced = True
            raise
        self._is_displaced = False

    @contextlib.contextmanager
    def _translating_errors(self, how: str) -> Iterator[None]:
        try:
            yield
        except (apsw.CorruptError, apsw.NotADBError, ValueError, DamagedError) as error:
            remedy = f"Restore it from a copy; first move {LOG}-wal and {LOG}-shm out of the store."
            raise ArtifactError(str(self._path), "an undamaged change log", str(error), remedy) from error
        except (apsw.Error, OSError) as error:
            expected, remedy = f"a log that can be {how}", "Free disk space, and check that the store can be written."
            raise LogError(str(self._path), expected=expected, found=str(error), remedy=remedy) from error
