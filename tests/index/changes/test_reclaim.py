"""Superseded changes are counted, dropped in steps, and their space goes back to the file system."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import apsw
import numpy as np
import pytest

from lookalike.index.changes import reclaim
from lookalike.index.changes.change import Change
from lookalike.index.changes.log import LOG, ChangeLog
from lookalike.index.errors import LogError
from lookalike.training.errors import ArtifactError
from tests.factories import no_room

FILL = json.dumps({"fill": "y" * 2_000})


def put(name: str, value: float = 1.0) -> Change:
    return Change(name, np.full(3, value, np.float32), FILL)


def recounted(store: Path) -> tuple[int, int]:
    """The number of changes, and of superseded changes, by SQL."""
    database = apsw.Connection(str(store / LOG))  # Python's SQLite would drop the locks of apsw's
    changes, superseded = next(database.execute("SELECT count(*), count(*) - count(DISTINCT id) FROM changes"))
    database.close()
    return changes, superseded


def test_the_counts_are_those_of_the_rows_after_each_change(tmp_path: Path) -> None:
    log, other = ChangeLog(tmp_path), ChangeLog(tmp_path)
    assert (log.size().bytes, log.size().changes, log.size().superseded) == (0, 0, 0)

    def counts() -> tuple[int, int]:
        sizes = {(one.size().changes, one.size().superseded) for one in (log, other)}
        assert sizes == {recounted(tmp_path)}
        return sizes.pop()

    steps: list[tuple[Sequence[Change], tuple[int, int]]] = [
        ([put("a"), put("b")], (2, 0)),
        ([put("a")], (3, 1)),
        ([Change("a"), Change("never")], (5, 2)),
        ([put("c"), put("c"), put("c")], (8, 4)),
        ([Change("b", seen=0), Change("c", seen=8)], (9, 5)),  # the first change is skipped
    ]
    for changes, wanted in steps:
        log.append_each(changes)
        assert counts() == wanted
    assert (other.prune([3]), counts()) == (4, (5, 1))
    assert (log.prune(), counts()) == (1, (4, 0))
    assert log.size().bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_the_counts_are_those_of_the_rows_after_a_failure_too(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    log.append([put("a"), put("b")])
    with no_room(), pytest.raises(LogError):
        log.append([put(f"{i}") for i in range(200)])
    log.append([put("a")])
    assert (log.size().changes, log.size().superseded) == recounted(tmp_path) == (3, 1)


def test_a_log_that_lost_its_counts_is_damaged(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    log.append([put("a")])
    database = apsw.Connection(str(tmp_path / LOG))
    database.execute("DELETE FROM notes")
    database.close()
    with pytest.raises(ArtifactError, match="found no count of the changes"):
        log.size()


def test_prune_frees_the_space_of_superseded_changes(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    for round_ in range(25):
        log.append([put(f"i{i}", round_) for i in range(40)])
    log.append([Change("i0")])
    log.close()
    before = (tmp_path / LOG).stat().st_size
    assert log.prune() == 24 * 40 + 1
    log.close()
    assert (tmp_path / LOG).stat().st_size < before / 20
    log = ChangeLog(tmp_path)
    assert [(change.id, change.sequence) for change in log.read(0)] == [
        *((f"i{i}", 961 + i) for i in range(1, 40)), ("i0", 1_001),
    ]  # fmt: skip
    assert all(change.payload == FILL for change in log.read(0) if not change.is_delete)
    assert log.append([put("i0")]) == 1_002


def test_prune_works_in_steps_and_keeps_the_wal_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaim, "STEP", 16)
    log, other = ChangeLog(tmp_path), ChangeLog(tmp_path)
    for round_ in range(25):
        log.append([put(f"i{i}", round_) for i in range(40)])
    log.close()
    sizes: list[int] = []

    def between(_: float) -> None:
        other.append([put("other")])
        sizes.append((tmp_path / f"{LOG}-wal").stat().st_size)

    monkeypatch.setattr(time, "sleep", between)
    log = ChangeLog(tmp_path)
    log.append([])
    assert log.prune() == 24 * 40
    assert len(sizes) > 24 * 40 / 16
    assert max(sizes) < 1 << 20  # 3 MiB are dropped
    assert recounted(tmp_path)[0] == 40 + len(sizes)
    monkeypatch.undo()
    log.prune()
    assert recounted(tmp_path) == (41, 0)


def test_prune_continues_during_a_checkpoint_of_another_process(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    for _ in range(3):
        log.append([put("a"), put("b")])
    writing, moving = (apsw.Connection(str(tmp_path / LOG)) for _ in range(2))
    list(moving.execute("SELECT * FROM notes"))  # now it has the wal open
    dropped: list[int] = []

    def waits(_: int) -> bool:
        """`moving` waits for `writing`, and holds SQLite's lock on moving."""
        writing.execute("ROLLBACK")
        dropped.append(log.prune())
        return False

    moving.set_busy_handler(waits)
    writing.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.BusyError):
        moving.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
    assert dropped == [4]
    for connection in (writing, moving):
        connection.close()


def test_a_failed_step_leaves_an_undamaged_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ChangeLog(tmp_path)
    for round_ in range(30):
        log.append([put(f"i{i}", round_) for i in range(40)])
    last = [change.sequence for batch in log.current() for change in batch]
    steps = iter(range(2))

    def then_no_room(_: float) -> None:
        if next(steps, None) is None:
            raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", then_no_room)
        with pytest.raises(LogError, match="No space left"):
            log.prune()
    assert (log.size().changes, log.size().superseded) == recounted(tmp_path)
    assert [change.sequence for batch in log.current() for change in batch] == last
    assert log.prune() > 0
    assert recounted(tmp_path) == (40, 0)
