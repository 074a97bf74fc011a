"""The item log: every accepted change of an item, durable before it is acknowledged.

STORE/items.db   SQLite: a row a change, in the order of their sequence numbers, which are never given twice

The write-ahead log with synchronous=FULL (https://sqlite.org/wal.html): a transaction is on disk when `append` returns,
and readers and the writer, also of other processes, do not wait for one another. SQLite is apsw's own, not Python's:
several versions of it before 3.51.3 can damage such a log.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from index.errors import JobError, LogError
from index.ids import check_ids
from index.manifest import read_version
from index.sqlite import connected, is_frozen, one, stamp_of, transaction
from training.errors import ArtifactError, DataError
from training.sealed import locked, staging, sync_folder

__all__ = ["LOG", "Change", "ItemLog", "Note"]

LOG = "items.db"
BATCH = 1_024
"""Changes that are read at a time."""
_APPLICATION = 0x4C4F4F4B  # "LOOK"
_FORMAT = 1
_SCHEMA = """
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    input BLOB,    -- float32, little-endian; null where the item was deleted
    payload TEXT,  -- JSON; null where the item was deleted
    digest BLOB NOT NULL
) STRICT;
CREATE INDEX changes_by_id ON changes (id, sequence);
CREATE TABLE notes (key TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
"""
_LOST = "lost"
_LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'"
_NOTE = "SELECT text FROM notes WHERE key = ?"
_CHANGED = "SELECT 1 FROM changes WHERE id = ? AND sequence > ? LIMIT 1"
_COLUMNS = "SELECT sequence, id, input, payload, digest FROM changes"
_LATEST = (  # by the table itself: where its index is damaged, SQLite does not see that it says something else
    f"{_COLUMNS} WHERE sequence IN (SELECT max(sequence) FROM changes NOT INDEXED "
    "WHERE sequence > ?1 AND sequence <= ?2 GROUP BY id) ORDER BY sequence"
)


@dataclass(frozen=True)
class Change:
    """An item made, replaced or deleted.

    Attributes:
        id: the item's.
        input: (width,) float32 as the client sent it, NaN where a table's value is missing; None: it is deleted.
        payload: its JSON text; None: it is deleted.
        sequence: its place among all changes, from 1; 0 where it is not in the log yet.
        seen: write it only if the item has not changed after this sequence number, up to which the caller has read
            the log; None: write it whatever happened.
    """

    id: str
    input: NDArray[np.float32] | None = None
    payload: str | None = None
    sequence: int = 0
    seen: int | None = None

    @property
    def is_delete(self) -> bool:
        return self.input is None


@dataclass(frozen=True)
class Note:
    """A text that the log keeps under a key.

    Attributes:
        before: what the key had when the caller decided what to write; None: nothing.
    """

    key: str
    text: str
    before: str | None = None


class ItemLog:
    """The log of one store; call it from one thread at a time. It is made with the first change.

    Each call raises:
        LogError: the log cannot be written or read: a full disk, say. Nothing of the call is in it.
        ArtifactError: it is damaged, or no log.
    """

    def __init__(self, store: Path) -> None:
        self._folder = store
        self._path = store / LOG
        self._opened: apsw.Connection | None = None
        self._seen: int | None = None
        self._width: int | None = None
        self._is_named = False
        self._frozen: tuple[int, ...] | None = None

    def append(self, changes: Sequence[Change], note: Note | None = None) -> int:
        """Add changes, all or none; they are on disk when this returns.

        Args:
            note: to keep with them, in place of what its key had.

        Returns:
            The last sequence number that was given.

        Raises:
            DataError: inputs of another length than the log's, or an id that no item can have.
            JobError: the note is not what it was when the caller read it. Nothing is written.
        """
        written = self.append_each(changes, note)
        return written[-1] if written else self.last()

    def append_each(self, changes: Sequence[Change], note: Note | None = None) -> list[int]:
        """As `append`, but each change that has `seen` is skipped if its item has changed since.

        The comparison and the writing are one transaction, so no other process can write in between.

        Returns:
            Each change's sequence number; 0 if it was skipped.
        """
        check_ids([change.id for change in changes if not change.is_delete], self._path.name)
        with self._told("written"):
            if not self._opened and not self._path.exists():
                self._make()
            connection = self._open()
            if not self._is_named:  # whoever made it may have died, or failed, before its name was on disk
                sync_folder(self._folder)
                self._is_named = True
            with transaction(connection):
                self._check_width(changes)
                last, written = int(one(connection, _LAST) or 0), list[int]()
                for change in changes:
                    if change.seen is not None and one(connection, _CHANGED, change.id, change.seen):
                        written.append(0)
                        continue
                    last += 1
                    connection.execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", _values(last, change))
                    written.append(last)
                if note:
                    self._keep(connection, note)
        return written

    def last(self) -> int:
        """The last sequence number that was given; 0 before the first."""
        return int(self._value(_LAST) or 0)

    def width(self) -> int | None:
        """How many values an input has; None where there is none."""
        if self._width is None:  # then it stays what it is
            size = self._value("SELECT length(input) FROM changes WHERE input IS NOT NULL ORDER BY sequence LIMIT 1")
            self._width = None if size is None else int(size) // 4
        return self._width

    def begins(self) -> int:
        """After which change it begins: 0, or where an older log was lost, the last that a version had folded in."""
        return int(self.note(_LOST) or 0)

    def note(self, key: str) -> str | None:
        """What was kept under a key."""
        text = self._value(_NOTE, key)
        return None if text is None else str(text)

    def read(self, after: int, most: int = BATCH) -> list[Change]:
        """The next changes after a sequence number, in their order."""
        with self._told("read"):
            connection = self._connection()
            if connection is None:
                return []
            query = f"{_COLUMNS} WHERE sequence > ? ORDER BY sequence LIMIT ?"
            return _rising([_change(row) for row in connection.execute(query, (after, most))], after)

    def current(self, after: int = 0, upto: int | None = None) -> Iterator[list[Change]]:
        """What counts of the changes after a sequence number and up to another: the last of each id, in their order.

        Yields:
            Batches, all as they stand when the first is asked for.
        """
        with self._told("read"):
            connection = self._connection()
            if connection is None:
                return
            cursor = connection.execute(_LATEST, (after, self.last() if upto is None else upto))
            while changes := _rising([_change(row) for row in islice(cursor, BATCH)], after):
                yield changes
                after = changes[-1].sequence

    def find(self, name: str) -> Change | None:
        """The last change of an id."""
        with self._told("read"):
            connection = self._connection()
            if connection is None:
                return None
            query = f"{_COLUMNS} WHERE id = ? ORDER BY sequence DESC LIMIT 1"
            return next((_change(row) for row in connection.execute(query, (name,))), None)

    def moved(self) -> bool:
        """Did another process, or another ItemLog, write since this was asked last? It costs some microseconds."""
        seen = self._value("PRAGMA data_version")
        before, self._seen = self._seen, None if seen is None else int(seen)
        return self._seen != before

    def prune(self, upto: int) -> int:
        """Drop what another change of the same item up to `upto` took the place of; returns how many were."""
        with self._told("written"):
            connection = self._connection()
            if connection is None:
                return 0
            with transaction(connection):
                connection.execute(
                    "DELETE FROM changes WHERE sequence < ?1 AND EXISTS (SELECT 1 FROM changes AS later "
                    "WHERE later.id = changes.id AND later.sequence > changes.sequence AND later.sequence <= ?1)",
                    (upto,),
                )
                return connection.changes()

    def close(self) -> None:
        opened, self._opened, self._frozen, self._seen = self._opened, None, None, None
        if opened:
            with self._told("closed"):
                opened.close()

    def _check_width(self, changes: Sequence[Change]) -> None:
        wanted = self.width()
        for change in changes:
            if change.input is None:
                continue
            wanted = len(change.input) if wanted is None else wanted
            if len(change.input) != wanted:
                raise DataError(
                    f"id {change.id!r}", expected=f"{wanted} values, as the items of {self._path.name} have",
                    found=str(len(change.input)),
                )  # fmt: skip

    def _keep(self, connection: apsw.Connection, note: Note) -> None:
        if one(connection, _NOTE, note.key) != note.before:
            raise JobError(
                note.key,
                expected="one job at a time",
                found="another that wrote at the same time",
                remedy="Wait until the other one has ended, and start this one again.",
            )
        connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (note.key, note.text))

    def _value(self, query: str, *values: Any) -> Any:
        with self._told("read"):
            connection = self._connection()
            return None if connection is None else one(connection, query, *values)

    def _connection(self) -> apsw.Connection | None:
        """None where there is no log."""
        if self._frozen and not (is_frozen(self._path) and stamp_of(self._path) == self._frozen):
            self.close()  # someone who may write does
        return self._open() if self._opened or self._path.exists() else None

    def _open(self) -> apsw.Connection:
        if self._opened is None:
            frozen = stamp_of(self._path) if is_frozen(self._path) else None
            opened = connected(self._path)
            self._check_format(opened)
            self._opened, self._frozen = opened, frozen
        return self._opened

    def _make(self) -> None:
        """Whole, and then under its name: a log that was begun and not finished is none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with staging(self._folder) as folder, locked(self._folder):
            if self._path.exists():
                return
            _write_new(folder / LOG, _folded(self._folder))
            (folder / LOG).rename(self._path)
            sync_folder(self._folder.parent)

    def _check_format(self, connection: apsw.Connection) -> None:
        found = one(connection, "PRAGMA application_id"), one(connection, "PRAGMA user_version")
        if found != (_APPLICATION, _FORMAT):
            raise ArtifactError(str(self._path), expected=f"an item log of format {_FORMAT}", found=str(found))

    @contextlib.contextmanager
    def _told(self, how: str) -> Iterator[None]:
        try:
            yield
        except (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError, _DamagedError) as error:
            raise ArtifactError(
                str(self._path),
                expected="an item log that is whole",
                found=str(error),
                remedy="Restore it from a copy.",
            ) from error
        except (apsw.Error, OSError) as error:
            remedy = "Make room, and see that the store can be written."
            raise LogError(
                str(self._path), expected=f"a log that can be {how}", found=str(error), remedy=remedy
            ) from error


class _DamagedError(Exception):
    """A row is not what was written."""


def _write_new(path: Path, begins: int) -> None:
    """By a rollback journal: SQLite does not tell of an error where a connection that closes folds its log in."""
    made = apsw.Connection(str(path))
    made.execute("PRAGMA synchronous = FULL")
    with transaction(made):
        made.execute(_SCHEMA)
        made.execute(f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_FORMAT}")
        if begins:
            made.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('changes', ?)", (begins,))
            made.execute("INSERT INTO notes VALUES (?, ?)", (_LOST, str(begins)))
    made.execute("PRAGMA journal_mode = WAL")
    made.close()


def _folded(store: Path) -> int:
    """The last change that a version of the store has folded in, of a log that is not there any more; else 0.

    A new change is a later one than all of them, or the version would take it for one that it knows.
    """
    folded = 0
    for manifest in store.glob("versions/*/manifest.json"):
        with contextlib.suppress(ArtifactError):  # of a version that cannot be opened
            folded = max(folded, int(read_version(manifest.parent).header["sequence"]))
    return folded


def _values(sequence: int, change: Change) -> tuple[Any, ...]:
    blob = None if change.input is None else np.ascontiguousarray(change.input, "<f4").tobytes()
    return sequence, change.id, blob, change.payload, _digest(sequence, change.id, blob, change.payload)


def _change(row: tuple[Any, ...]) -> Change:
    sequence, name, blob, payload, digest = row
    kinds = isinstance(name, str), isinstance(blob, bytes | None), isinstance(payload, str | None)
    if not all(kinds) or digest != _digest(sequence, name, blob, payload):
        raise _DamagedError(f"change {sequence} of {name!r} with another digest")
    return Change(name, None if blob is None else np.frombuffer(blob, "<f4"), payload, sequence)


def _rising(changes: list[Change], after: int) -> list[Change]:
    """One that comes twice stands in the place of another."""
    for change in changes:
        if change.sequence <= after:
            raise _DamagedError(f"change {change.sequence} after change {after}")
        after = change.sequence
    return changes


def _digest(sequence: int, name: str, blob: bytes | None, payload: str | None) -> bytes:
    """Of what a row says; SQLite itself would give back a byte that the disk has turned."""
    digest = hashlib.blake2b(b"%d" % sequence, digest_size=16)
    for part in (name.encode(), blob, None if payload is None else payload.encode()):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.digest()
