"""The log after it was closed, damaged, lost, or written by several processes."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.log import BATCH, LOG, ChangeLog, Note
from lookalike.index.errors import JobError, LogError, StoreError
from lookalike.training.errors import ArtifactError, DataError
from tests.factories import flip, log_changes, put
from tests.index.changes.test_collection import COUNT, WIDTH, made

ONES = np.ones(3, np.float32)


def made_of(name: str, value: float = 1.0) -> Change:
    return put(name, ONES * np.float32(value), {"v": value})


def told(changes: list[Change]) -> list[tuple[int, str, float | None]]:
    return [(one.sequence, one.id, None if one.input is None else float(one.input[0])) for one in changes]


def test_changes_come_back_in_their_order_as_they_were_written(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path / "store")
    assert (log.last(), log.read(0), list(log.current()), log.find("a"), log.width()) == (0, [], [], None, None)
    assert not (tmp_path / "store").exists()
    assert log.append([made_of("a"), made_of("b", np.nan), Change("a")]) == 3
    assert log.append([made_of("é", 2)]) == 4
    assert log.append([]) == 4
    for each in (log, ChangeLog(tmp_path / "store")):
        back = each.read(0)
        assert [(one.sequence, one.id, one.payload) for one in back] == [
            (1, "a", '{"v": 1.0}'), (2, "b", '{"v": NaN}'), (3, "a", None), (4, "é", '{"v": 2}'),
        ]  # fmt: skip
        assert back[1].input is not None
        assert np.isnan(back[1].input).all()
        assert (each.last(), each.width(), each.begins()) == (4, 3, 0)
        assert told(each.read(1, most=2)) == [(2, "b", pytest.approx(np.nan, nan_ok=True)), (3, "a", None)]
        assert (each.find("a") or made_of("?")).is_delete
        each.close()


def test_current_yields_the_latest_change_of_each_item(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    log.append([made_of("a", 1), made_of("b", 2), made_of("a", 3), Change("b"), made_of("c", 5)])
    assert [told(batch) for batch in log.current()] == [[(3, "a", 3.0), (4, "b", None), (5, "c", 5.0)]]
    assert [told(batch) for batch in log.current(upto=2)] == [[(1, "a", 1.0), (2, "b", 2.0)]]
    assert [told(batch) for batch in log.current(after=3)] == [[(4, "b", None), (5, "c", 5.0)]]
    log.append([made_of(f"many-{i}") for i in range(2 * BATCH)])
    assert sum(map(len, log.current())) == 2 * BATCH + 3


def test_prune_drops_superseded_changes_and_no_number_is_used_twice(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    log.append([made_of("a", 1), made_of("a", 2), Change("b"), made_of("a", 4)])
    assert log.prune([3]) == 1
    assert told(log.read(0)) == [(2, "a", 2.0), (3, "b", None), (4, "a", 4.0)]
    assert log.append([Change("a")]) == 5
    assert log.prune() == 2
    assert told(log.read(0)) == [(3, "b", None), (5, "a", None)]
    assert (log.last(), log.append([Change("c")])) == (5, 6)


def test_inputs_of_another_length_are_refused_and_nothing_of_the_call_is_there(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    with pytest.raises(DataError, match="'b': expected 3 values"):
        log.append([made_of("a"), Change("b", np.ones(4, np.float32), "{}")])
    assert log.read(0) == []
    log.append([made_of("a")])
    with pytest.raises(DataError, match="'c': expected 3 values"):
        ChangeLog(tmp_path).append([Change("c", np.ones(2, np.float32), "{}")])
    assert log.last() == 1


@pytest.mark.parametrize("name", ["", "a\0", "\ud800", "x" * 257])
def test_an_id_that_no_item_can_have_is_refused_and_nothing_of_the_call_is_there(tmp_path: Path, name: str) -> None:
    log = ChangeLog(tmp_path)
    with pytest.raises(DataError, match=r"items.db, id .*expected 1 to 256 characters"):
        log.append([made_of("a"), made_of(name)])
    assert (log.last(), log.read(0)) == (0, [])


def test_a_change_of_another_process_is_noticed(tmp_path: Path) -> None:
    one, other = ChangeLog(tmp_path), ChangeLog(tmp_path)
    one.moved()
    assert not one.moved()
    other.append([made_of("a")])
    assert one.moved()
    assert not one.moved()
    other.append([made_of("b")])
    assert one.moved()


def test_a_note_is_kept_with_the_changes_that_came_with_it(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    assert log.note("import") is None
    log.append([made_of("a")], Note("import", "1"))
    log.append([made_of("b")], Note("import", "2", before="1"))
    with pytest.raises(DataError):
        log.append([Change("c", np.ones(9, np.float32), "{}")], Note("import", "3", before="2"))
    assert ChangeLog(tmp_path).note("import") == "2"


@pytest.mark.parametrize("before", [None, "0", "2"])
def test_a_note_that_another_job_has_changed_is_not_replaced(tmp_path: Path, before: str | None) -> None:
    log = ChangeLog(tmp_path)
    log.append([made_of("a")], Note("import", "1"))
    with pytest.raises(JobError, match=r"import: expected one job at a time"):
        ChangeLog(tmp_path).append([made_of("b")], Note("import", "5", before=before))
    assert (log.note("import"), log.last()) == ("1", 1)


def test_a_change_is_skipped_if_its_item_has_changed_since_it_was_decided(tmp_path: Path) -> None:
    log, other = ChangeLog(tmp_path), ChangeLog(tmp_path)
    log.append([made_of("a"), made_of("b"), made_of("c")])
    seen = log.last()
    other.append([made_of("b", 2), Change("c")])
    decided = [Change("a", seen=seen), Change("b", seen=seen), Change("c", seen=seen), Change("new", seen=0)]
    assert log.append_each(decided) == [6, 0, 0, 7]
    assert [(change.id, change.sequence) for change in log.read(seen)] == [("b", 4), ("c", 5), ("a", 6), ("new", 7)]
    assert log.append_each([Change("b", seen=5), Change("b", seen=5)]) == [8, 0]  # the first change counts
    assert log.append_each([]) == []


def unclosed(folder: Path, to: Path, changes: int) -> Path:
    """A copy of a log like a killed process leaves it: the changes are in SQLite's -wal."""
    log = ChangeLog(folder)
    for i in range(changes):
        log.append([made_of(f"item-{i}", i)])
    to.mkdir()
    for name in (LOG, f"{LOG}-wal"):
        shutil.copy(folder / name, to / name)
    log.close()
    return to


def test_changes_before_a_damaged_end_of_the_wal_are_kept(tmp_path: Path) -> None:
    folder = unclosed(tmp_path / "whole", tmp_path / "killed", 20)
    flip(folder / f"{LOG}-wal", -100)
    log = ChangeLog(folder)
    assert told(log.read(0)) == [(i + 1, f"item-{i}", float(i)) for i in range(19)]
    assert log.append([Change("x")]) == 20


@pytest.mark.parametrize("end", range(0, 4_000, 97))
def test_sqlites_log_cut_anywhere_in_its_last_change_is_the_log_without_it(tmp_path: Path, end: int) -> None:
    folder = unclosed(tmp_path / "whole", tmp_path / "killed", 5)
    wal = folder / f"{LOG}-wal"
    wal.write_bytes(wal.read_bytes()[: -1 - end])
    assert len(ChangeLog(folder).read(0)) == 4


def test_a_flipped_bit_is_reported_or_harmless(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path / "whole")
    log.append([made_of(f"item-{i}", i) for i in range(300)])
    log.close()
    right, told_of = told(ChangeLog(tmp_path / "whole").read(0)), 0
    size = (tmp_path / "whole" / LOG).stat().st_size
    for place in np.random.default_rng(0).integers(size, size=150):
        shutil.rmtree(tmp_path / "damaged", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
        flip(tmp_path / "damaged" / LOG, int(place), bit=int(place) % 8)
        damaged = ChangeLog(tmp_path / "damaged")
        try:
            assert told(damaged.read(0)) == right
        except (ArtifactError, LogError):
            told_of += 1
        damaged.close()
    assert told_of > 10


def test_refuses_a_file_that_is_no_log_each_time(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / LOG)
    other.execute("CREATE TABLE changes (sequence INTEGER PRIMARY KEY)")
    other.close()
    log = ChangeLog(tmp_path)
    for ask in (log.last, log.last, lambda: log.append([Change("a")])):
        with pytest.raises(ArtifactError, match="a change log of format 4"):
            ask()
    (tmp_path / LOG).write_bytes(b"no database at all" * 300)
    with pytest.raises(ArtifactError, match="Restore it from a copy"):
        ChangeLog(tmp_path).last()


def test_after_a_lost_log_numbers_begin_after_those_in_versions(tmp_path: Path) -> None:
    from lookalike.index.changes.compact import compact

    store, row = made(tmp_path), np.ones(WIDTH, np.float32)
    log_changes(store.folder, put("a", row, {}), Change("row-0"))
    assert compact(store) == 2
    (store.folder / LOG).unlink()
    assert open_collection(store, 2).items.count == COUNT
    log_changes(store.folder, put("b", row, {}))
    with closing(ChangeLog(store.folder)) as log:
        assert (log.size().changes, log.size().superseded) == (1, 0)
    collection = open_collection(store, 2)
    assert (collection.applied, collection.items.count) == (3, COUNT + 1)
    with pytest.raises(StoreError, match="version 1: expected a version whose last change is from 2 to 3"):
        open_collection(store, 1)


def test_refuses_an_older_copy_of_the_log(tmp_path: Path) -> None:
    from lookalike.index.changes.compact import compact

    store, row = made(tmp_path), np.ones(WIDTH, np.float32)
    log_changes(store.folder, put("a", row, {}))
    shutil.copy(store.folder / LOG, tmp_path / "older")
    log_changes(store.folder, put("b", row, {}), Change("a"))
    assert compact(store) == 2
    shutil.copy(tmp_path / "older", store.folder / LOG)
    with pytest.raises(StoreError, match="found 3: a change log was lost, or replaced by an older copy"):
        open_collection(store, 2)


def test_reads_and_follows_a_log_in_a_read_only_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make os.access deny writing, because the user of the tests can write."""
    writer = ChangeLog(tmp_path)
    writer.append([made_of("a", 1)])
    writer.close()
    with monkeypatch.context() as told_no:
        told_no.setattr(os, "access", lambda path, mode: False)
        reader = ChangeLog(tmp_path)
        assert (reader.moved(), told(reader.read(0))) == (True, [(1, "a", 1.0)])
        assert not reader.moved()
        assert [path.name for path in tmp_path.iterdir()] == [LOG]
        with pytest.raises(LogError, match="readonly"):
            reader.append([made_of("b")])
    for closes in (False, True):
        last = writer.append([made_of("b", 2)])
        if closes:
            writer.close()
        with monkeypatch.context() as told_no:
            told_no.setattr(os, "access", lambda path, mode: False)
            assert (reader.moved(), reader.last()) == (True, last)
    reader.close()


def test_an_input_of_float64_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path / "store")
    far = np.array([1.76e9 + 2**-20, np.nan, 1e300])
    log.append([Change("a", far, "{}"), made_of("b")])
    first, second = (change.input for change in log.read(0))
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first, far)
    assert first.dtype == np.float64
    assert second.dtype == np.float32
    assert log.width() == 3
