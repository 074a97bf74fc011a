"""The files of the change log: made whole, opened only if they belong together, and compared with their paths.

STORE/items.db       the log (index.changes.log)
STORE/items.db-wal   changes that are not in items.db yet; it exists while a process has the log open, or was killed
STORE/items.db-shm   an index of items.db-wal that the processes share; SQLite makes it again if it is missing

These checks are needed because SQLite replays an items.db-wal into any database of that name, and continues to write to
files that were moved or deleted.
"""

from pathlib import Path

import apsw

from lookalike.index.changes.sqlite import first_value, transaction
from lookalike.index.errors import LogError
from lookalike.index.versions.store import Store
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import locked, staging, sync_folder

__all__ = ["BEGINS", "CHANGES", "IDS", "LOG", "LogFiles", "check_format", "log_exists", "make_log"]

LOG = "items.db"
BEGINS = "lost"  # The note with the last change of an older, lost log that a version includes
CHANGES = "changes"  # The note with the number of changes that the log holds
IDS = "ids"  # The note with the number of ids that have a change; the last change of each is never dropped
_WAL, _SHM, _JOURNAL = "-wal", "-shm", "-journal"
_APPLICATION = 0x4C4F4F4B  # "LOOK"
_FORMAT = 4
_SCHEMA = """
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    input BLOB,    -- packed by index.changes.inputs; null if the item was deleted
    payload TEXT,  -- JSON; null if the item was deleted
    preview BLOB,  -- WebP; null if the item was deleted or has no preview
    digest BLOB NOT NULL
) STRICT;
CREATE INDEX changes_by_id ON changes (id, sequence);
CREATE TABLE notes (key TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
"""


class LogFiles:
    """The files of a log that a process has opened, to compare them with the files at their paths later."""

    def __init__(self, path: Path) -> None:
        """`path` is that of items.db; SQLite has opened all three files."""
        beside = _beside(path)
        self._paths = path, beside[_WAL], beside[_SHM]
        self._opened = self._look()

    @property
    def bytes(self) -> int:
        """The total size."""
        return sum(stamp[2] for stamp in map(_stamp, self._paths) if stamp)

    def check(self) -> None:
        """Raises LogError if a path no longer names the file that was opened; it takes some µs."""
        remedy = "Move it back (a copy is another file): then writing continues. If it is lost, restart the service."
        for path, now, opened in zip(self._paths, self._look(), self._opened, strict=True):
            if now != opened:
                found = "another file" if now else "no file: it was moved or deleted"
                raise LogError(str(path), expected="the file that this process opened", found=found, remedy=remedy)

    @property
    def is_replaced(self) -> bool:
        """Whether items.db was replaced by another file, but its -wal was not."""
        database, wal, _ = self._look()
        return database not in (None, self._opened[0]) and wal == self._opened[1]

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        """Return the device and inode of each file; None if there is no file."""
        return tuple(stamp and stamp[:2] for stamp in map(_stamp, self._paths))


def log_exists(path: Path) -> bool:
    """Whether there is a log. An items.db without other files is a log that its last process closed.

    Raises LogError if files are missing, and ArtifactError if items.db is empty (SQLite would drop its -wal).
    """
    beside, found = _beside(path), _stamp(path)
    if found is None:
        left = [name for name in (_WAL, _SHM, _JOURNAL) if beside[name].exists()]
        if not left or path.exists():  # another process made it in between
            return bool(left)
        expected = f"{LOG} beside {' and '.join(LOG + name for name in left)}"
        remedy = f"Put {LOG} back. If it is lost, move the other files out of the store before you restore a backup "
        remedy += "or begin a new log: SQLite would replay them into it."
        raise LogError(str(path), expected, found=f"no {LOG}", remedy=remedy)
    if found[2] == 0:
        raise ArtifactError(str(path), "a change log", "an empty file", "Restore it from a copy.")
    index = _stamp(beside[_SHM])
    if index and not beside[_WAL].exists() and _stamp(beside[_SHM]) == index:  # SQLite removes the index first
        remedy = f"Put {LOG}{_WAL} back: it may hold acknowledged changes. If it is lost, stop every process that "
        remedy += f"has the log open, then remove {LOG}{_SHM} to continue with the changes in {LOG}."
        raise LogError(str(path), f"{LOG}{_WAL} beside {LOG}{_SHM}", found=f"no {LOG}{_WAL}", remedy=remedy)
    return True


def make_log(store: Path) -> None:
    """Make a log if there is none: in a temporary folder, from which it is renamed when it is whole.

    Raises LogError if files of an older log exist.
    """
    path = store / LOG
    store.mkdir(parents=True, exist_ok=True)
    with staging(store) as folder, locked(store):
        if log_exists(path):
            return
        _write_new(folder / LOG, _included(store))
        (folder / LOG).rename(path)
        sync_folder(store.parent)


def check_format(connection: apsw.Connection, path: Path) -> None:
    """Raises ArtifactError if the database is no change log, or has another format."""
    application, format_ = (first_value(connection, f"PRAGMA {name}") for name in ("application_id", "user_version"))
    if (application, format_) != (_APPLICATION, _FORMAT):
        found = f"format {format_}" if application == _APPLICATION else "another database"
        remedy = "Use the version of Lookalike that made it, or build a new store."
        raise ArtifactError(str(path), expected=f"a change log of format {_FORMAT}", found=found, remedy=remedy)


def _beside(path: Path) -> dict[str, Path]:
    """Return the paths of SQLite's other files by their suffixes; if `path` is a link, beside its target."""
    real = path.resolve() if path.is_symlink() else path
    return {name: real.with_name(real.name + name) for name in (_WAL, _SHM, _JOURNAL)}


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    """Return device, inode, size, and time of change. Never open such a file: closing it drops SQLite's locks."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_ctime_ns


def _write_new(path: Path, begins: int) -> None:
    """Write an empty log with a rollback journal: if a -wal's checkpoint fails at closing, SQLite reports no error."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous = FULL; PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
    with transaction(connection):
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_FORMAT}")
        connection.execute("INSERT INTO notes VALUES (?, '0'), (?, '0')", (CHANGES, IDS))
        if begins:
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('changes', ?)", (begins,))
            connection.execute("INSERT INTO notes VALUES (?, ?)", (BEGINS, str(begins)))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def _included(store: Path) -> int:
    """Return the last change of a lost log that a version of the store includes; 0 if there is none.

    New changes get later numbers, or the version would ignore them as changes that it includes.
    """
    versions = Store(store)
    manifests = map(versions.readable_manifest, versions.numbers())
    return max((manifest.sequence for manifest in manifests if manifest), default=0)
