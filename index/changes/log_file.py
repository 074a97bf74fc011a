"""The files of the change log: made whole, opened only if they belong together, and compared with their paths.

STORE/items.db       the log (index.changes.log)
STORE/items.db-wal   changes that are not in items.db yet; it is there while a process has the log open, or was killed
STORE/items.db-shm   an index of items.db-wal that the processes share; SQLite makes it again if it is missing

SQLite replays an items.db-wal into any database of that name, and goes on writing to files that were moved or deleted.
"""

import contextlib
from pathlib import Path

import apsw

from lookalike.index.changes.sqlite import one, transaction
from lookalike.index.errors import LogError
from lookalike.index.versions.manifest import read_version
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import locked, staging, sync_folder

__all__ = [
    "BEGINS",
    "CHANGES",
    "IDS",
    "LOG",
    "LogFiles",
    "check_format",
    "log_exists",
    "make_log",
]

LOG = "items.db"
BEGINS = "lost"
"""The note with the last change that a version has of an older log, which was lost."""
CHANGES = "changes"
"""The note with the number of changes that the log holds."""
IDS = "ids"
"""The note with the number of ids that have a change; the last change of each is never dropped."""
_WAL, _SHM, _JOURNAL = "-wal", "-shm", "-journal"
_APPLICATION = 0x4C4F4F4B  # "LOOK"
_FORMAT = 3
_SCHEMA = """
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    input BLOB,    -- as index.changes.inputs packs it; null where the item was deleted
    payload TEXT,  -- JSON; null where the item was deleted
    digest BLOB NOT NULL
) STRICT;
CREATE INDEX changes_by_id ON changes (id, sequence);
CREATE TABLE notes (key TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
"""


class LogFiles:
    """The files that a process has opened as a log, to compare with what their paths name later."""

    def __init__(self, path: Path) -> None:
        """`path` is that of items.db; SQLite has opened all three files."""
        beside = _beside(path)
        self._paths = path, beside[_WAL], beside[_SHM]
        self._opened = self._look()

    @property
    def bytes(self) -> int:
        """Their size together."""
        return sum(stamp[2] for stamp in map(_stamp, self._paths) if stamp)

    def check(self) -> None:
        """Raises LogError if a path names another file than the one that was opened, or none; it takes some µs."""
        found = self._look()
        if found == self._opened:
            return
        path, now = next(
            (path, now) for path, now, opened in zip(self._paths, found, self._opened, strict=True) if now != opened
        )
        raise LogError(
            str(path),
            expected="the file that this process opened",
            found="another file" if now else "no file: it was moved or deleted",
            remedy="Move it back (a copy is another file): then writing goes on. If it is lost, restart the service.",
        )

    @property
    def is_replaced(self) -> bool:
        """Is another items.db in place of the one that was opened, beside the same -wal?"""
        database, wal, _ = self._look()
        return database not in (None, self._opened[0]) and wal == self._opened[1]

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        """The device and inode of each file; None if there is no file."""
        return tuple(stamp and stamp[:2] for stamp in map(_stamp, self._paths))


def log_exists(path: Path) -> bool:
    """Is there a log? An items.db alone is one: its last process closed it.

    Raises:
        LogError: files of it are missing.
        ArtifactError: it is empty, and SQLite would delete its -wal.
    """
    beside, found = _beside(path), _stamp(path)
    if found is None:
        left = [name for name in (_WAL, _SHM, _JOURNAL) if beside[name].exists()]
        if not left or path.exists():  # another process made it in between
            return bool(left)
        raise LogError(
            str(path),
            expected=f"{LOG} beside {' and '.join(LOG + name for name in left)}",
            found=f"no {LOG}",
            remedy=f"Put {LOG} back. If it is lost, move the others out of the store before you restore a backup or "
            "begin a new log: SQLite would replay them into it.",
        )
    if found[2] == 0:
        raise ArtifactError(str(path), "a change log", "an empty file", "Restore it from a copy.")
    index = _stamp(beside[_SHM])
    if index and not beside[_WAL].exists() and _stamp(beside[_SHM]) == index:  # SQLite removes the index first
        raise LogError(
            str(path),
            expected=f"{LOG}{_WAL} beside {LOG}{_SHM}",
            found=f"no {LOG}{_WAL}",
            remedy=f"Put {LOG}{_WAL} back: it may hold acknowledged changes. If it is lost, stop every process that "
            f"has the log open, then remove {LOG}{_SHM} to go on with what {LOG} holds.",
        )
    return True


def make_log(store: Path) -> None:
    """Make a log if there is none: whole, and then under its name.

    Raises:
        LogError: files of an older one are there.
    """
    path = store / LOG
    store.mkdir(parents=True, exist_ok=True)
    with staging(store) as folder, locked(store):
        if log_exists(path):
            return
        _write_new(folder / LOG, _folded(store))
        (folder / LOG).rename(path)
        sync_folder(store.parent)


def check_format(connection: apsw.Connection, path: Path) -> None:
    """Raises ArtifactError if this is no change log, or one of another format."""
    found = one(connection, "PRAGMA application_id"), one(connection, "PRAGMA user_version")
    if found == (_APPLICATION, _FORMAT):
        return
    said = f"format {found[1]}" if found[0] == _APPLICATION else "another database"
    remedy = "Use the version of Lookalike that made it, or build a new store."
    raise ArtifactError(str(path), expected=f"a change log of format {_FORMAT}", found=said, remedy=remedy)


def _beside(path: Path) -> dict[str, Path]:
    """SQLite's other files by their endings: beside the file itself, if `path` is a link."""
    real = path.resolve() if path.is_symlink() else path
    return {name: real.with_name(real.name + name) for name in (_WAL, _SHM, _JOURNAL)}


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    """Device, inode, size, and time of change. Never open one of these files: closing it drops SQLite's locks."""
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return told.st_dev, told.st_ino, told.st_size, told.st_ctime_ns


def _write_new(path: Path, begins: int) -> None:
    """With a rollback journal: SQLite reports no error if the checkpoint of a closing connection fails."""
    made = apsw.Connection(str(path))
    made.execute("PRAGMA synchronous = FULL; PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
    with transaction(made):
        made.execute(_SCHEMA)
        made.execute(f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_FORMAT}")
        made.execute("INSERT INTO notes VALUES (?, '0'), (?, '0')", (CHANGES, IDS))
        if begins:
            made.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('changes', ?)", (begins,))
            made.execute("INSERT INTO notes VALUES (?, ?)", (BEGINS, str(begins)))
    made.execute("PRAGMA journal_mode = WAL")
    made.close()


def _folded(store: Path) -> int:
    """The last change of a lost log that a version of the store includes; 0 if there is none.

    New changes get later numbers, or the version would ignore them as changes that it includes.
    """
    folded = 0
    for manifest in store.glob("versions/*/manifest.json"):
        with contextlib.suppress(ArtifactError):  # of a version that cannot be opened
            folded = max(folded, read_version(manifest.parent).sequence)
    return folded
