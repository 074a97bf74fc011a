"""Transactions, and databases that cannot be written."""

from pathlib import Path

import apsw
import pytest

from lookalike.index.changes.sqlite import connected, first_value, is_frozen, stamp_of, transaction


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    apsw.Connection(str(tmp_path / "a.db")).execute("VACUUM")
    database = connected(tmp_path / "a.db")
    assert [first_value(database, f"PRAGMA {name}") for name in ("journal_mode", "synchronous")] == ["wal", 2]
    database.execute("CREATE TABLE t (x UNIQUE)")
    with pytest.raises(apsw.ConstraintError), transaction(database):
        database.execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)")
    assert first_value(database, "SELECT count(*) FROM t") == 0
    with transaction(database):
        database.execute("INSERT INTO t VALUES (?)", (2,))
    assert first_value(connected(tmp_path / "a.db"), "SELECT x FROM t WHERE x > ?", 1) == 2
    assert first_value(database, "SELECT x FROM t WHERE x > 2") is None


def test_a_writable_database_is_not_frozen_and_its_stamp_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"")
    before = stamp_of(path)
    assert not is_frozen(path)
    path.write_bytes(b"x")
    assert stamp_of(path) != before


def test_does_not_create_a_missing_database(tmp_path: Path) -> None:
    """SQLite would delete or replay files beside it."""
    with pytest.raises(apsw.CantOpenError):
        connected(tmp_path / "a.db")
    assert list(tmp_path.iterdir()) == []
