import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.changes.change import Change
from lookalike.index.changes.log import ChangeLog
from lookalike.index.changes.training_snapshot import ChampionRows, TrainingSnapshot, check_whole, take_snapshot
from lookalike.index.errors import StoreError
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.errors import DataError
from lookalike.training.rows import Chunk, Rows, sketches
from lookalike.training.transforms import ImageTransform
from tests.factories import cloud, log_changes, made_rows, put

WIDTH = 4
BASE = cloud(10, WIDTH)
NEW = cloud(6, WIDTH, seed=1)
KNOWN = fit_preprocessor(np.array([[-1], [1]], np.float32).repeat(WIDTH, axis=1), "none")
"""The preprocessing of an encoder that knows -21 to 21."""


def every(puts: list[Change]) -> NDArray[np.bool_]:
    return np.ones(len(puts), np.bool_)


def source(rows: Rows | None = None, name: str = "the rows") -> ChampionRows:
    return ChampionRows(rows or made_rows(BASE, batch=3), name, 10, hashlib.sha256(BASE.tobytes()).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Seven changes: two of the ten rows replaced, one deleted, one item put twice, one put and deleted again."""
    log_changes(tmp_path, put("row-2", NEW[0], {"label": 7}), Change("row-5"), put("a", NEW[1]))
    log_changes(tmp_path, put("a", NEW[2], {"label": "x"}), put("b", NEW[3]), Change("b"), put("row-9", NEW[4]))
    return tmp_path


def read(found: TrainingSnapshot, size: int | None = None) -> Chunk:
    chunks = list(found.rows.chunks(size))
    assert all(0 < len(chunk.ids) <= (size or 100) for chunk in chunks)
    return Chunk(
        [name for chunk in chunks for name in chunk.ids],
        np.concatenate([chunk.inputs for chunk in chunks]),
        [payload for chunk in chunks for payload in chunk.payloads],
    )


@pytest.mark.parametrize("size", [1, 2, 100])
def test_the_log_replaces_rows_of_the_source_and_comes_after_it(store: Path, size: int) -> None:
    found = take_snapshot(source(), store, 7, every, KNOWN)
    assert (found.new, found.replaced, found.deleted, found.unreadable) == (1, 2, 1, 0)
    told = read(found, size)
    assert told.ids == [f"row-{i}" for i in (0, 1, 3, 4, 6, 7, 8)] + ["row-2", "a", "row-9"]
    np.testing.assert_array_equal(told.inputs, np.concatenate([BASE[[0, 1, 3, 4, 6, 7, 8]], NEW[[0, 2, 4]]]))
    assert told.payloads[-3:] == [{"label": 7}, {"label": "x"}, {}]
    assert told.payloads[2] == {"number": 3}
    assert (found.rows.count, found.rows.name, found.rows.shape) == (10, "the rows", (WIDTH,))
    np.testing.assert_array_equal(found.sketches, sketches(told.inputs))
    np.testing.assert_array_equal(found.before, sketches(BASE))


@pytest.mark.parametrize(
    ("upto", "ids"),
    [
        (0, [f"row-{i}" for i in range(10)]),
        (1, [f"row-{i}" for i in (0, 1, 3, 4, 5, 6, 7, 8, 9)] + ["row-2"]),
        (3, [f"row-{i}" for i in (0, 1, 3, 4, 6, 7, 8, 9)] + ["row-2", "a"]),
        (5, [f"row-{i}" for i in (0, 1, 3, 4, 6, 7, 8, 9)] + ["row-2", "a", "b"]),
    ],
)
def test_reads_the_log_up_to_a_change(store: Path, upto: int, ids: list[str]) -> None:
    assert read(take_snapshot(source(), store, upto, every, KNOWN)).ids == ids


def test_later_puts_are_not_included(store: Path) -> None:
    found = take_snapshot(source(), store, 7, every, KNOWN)
    log = ChangeLog(store)
    log.append([put("late", NEW[5]), Change("row-0"), put("a", NEW[5])])
    log.close()
    told = read(found)
    assert (told.ids[0], told.ids[-2:]) == ("row-0", ["a", "row-9"])
    np.testing.assert_array_equal(told.inputs[-2], NEW[2])


def test_leaves_out_unreadable_items_and_the_rows_that_they_replaced(store: Path) -> None:
    def readable(puts: list[Change]) -> NDArray[np.bool_]:
        return np.array([change.id not in ("a", "row-2") for change in puts], np.bool_)

    found = take_snapshot(source(), store, 7, readable, KNOWN)
    assert (found.new, found.replaced, found.deleted, found.unreadable) == (0, 1, 1, 2)
    assert read(found).ids == [f"row-{i}" for i in (0, 1, 3, 4, 6, 7, 8, 9)]


def test_without_a_log_the_rows_equal_the_source(tmp_path: Path) -> None:
    found = take_snapshot(source(), tmp_path, 0, every, KNOWN)
    np.testing.assert_array_equal(read(found).inputs, BASE)
    assert not list(tmp_path.iterdir())


def test_the_rows_keep_the_transform_and_the_recordings_of_the_source(tmp_path: Path) -> None:
    transform = ImageTransform(height=2, width=2, mode="grey")
    rows = replace(made_rows(BASE, batch=3), transform=transform, group="recording")
    found = take_snapshot(source(rows), tmp_path, 0, every, KNOWN).rows
    assert (found.transform, found.group) == (transform, "recording")


@pytest.mark.parametrize(
    ("rows", "about"),
    [
        (BASE[:9], "found 9 rows instead of 10"),
        (np.concatenate([BASE[1:], BASE]), "found other rows, and 9 more"),
        (np.where(np.arange(10)[:, None] == 9, BASE * 2, BASE), "found other rows of the same number"),
        (BASE[::-1].copy(), "found other rows of the same number"),
    ],
)
def test_a_source_that_changed_is_refused(tmp_path: Path, rows: NDArray[np.float32], about: str) -> None:
    with pytest.raises(DataError, match=rf"made: expected the rows that .* as the rows, {about}\. .*--data"):
        take_snapshot(source(made_rows(rows)), tmp_path, 0, every, KNOWN)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_rows_that_a_source_gained_are_left_out(store: Path, size: int) -> None:
    grown = source(made_rows(np.concatenate([BASE, NEW]), batch=4))
    assert grown.new == 6
    found = take_snapshot(grown, store, 7, every, KNOWN)
    assert read(found, size).ids == read(take_snapshot(source(), store, 7, every, KNOWN)).ids
    np.testing.assert_array_equal(found.before, sketches(BASE))


def test_rows_gained_between_the_rows_of_a_version_are_left_out_by_their_ids(tmp_path: Path) -> None:
    ids = [f"row-{i}" for i in range(10)]
    rows = made_rows(np.concatenate([NEW[:1], BASE[:5], NEW[1:], BASE[5:]]), ["a", *ids[:5], *"bcdef", *ids[5:]])
    found = take_snapshot(replace(source(rows), ids=frozenset(ids)), tmp_path, 0, every, KNOWN)
    told = read(found)
    assert told.ids == ids
    np.testing.assert_array_equal(told.inputs, BASE)


def test_refuses_a_source_that_changes_between_two_reads(store: Path) -> None:
    content = BASE.copy()
    found = take_snapshot(source(made_rows(content)), store, 7, every, KNOWN)
    content[0, 0] += 1
    with pytest.raises(DataError, match="other rows of the same number"):
        read(found)


def test_refuses_a_log_that_lacks_changes_of_a_version(store: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_whole(store, 7)
    check_whole(store, 0)
    with pytest.raises(StoreError, match="from change 1 to 8, which a version includes, found changes 1 to 7"):
        check_whole(store, 8)
    empty = tmp_path_factory.mktemp("empty")
    check_whole(empty, 0)
    with pytest.raises(StoreError, match=r"found none of these changes.*Restore items\.db"):
        check_whole(empty, 1)


def test_items_of_another_width_are_refused(store: Path) -> None:
    wide = cloud(10, 5)
    with pytest.raises(DataError, match="expected rows of 4 values, like the items in the change log, found 5"):
        take_snapshot(ChampionRows(made_rows(wide), "wide", 10, ""), store, 7, every, KNOWN)


def test_the_same_origin_is_subtracted_from_source_and_log(tmp_path: Path) -> None:
    origin = np.array([1.76e9, 0, 0, 0])
    rows = made_rows(BASE + origin, batch=3).measured_from(origin)
    near = np.concatenate([chunk.inputs for chunk in rows.chunks()])
    ChangeLog(tmp_path).append([put("a", NEW[0] + origin), put("row-9", NEW[1] + origin)])
    of = ChampionRows(rows, "the rows", 10, hashlib.sha256(near.tobytes()).hexdigest())
    found = take_snapshot(of, tmp_path, 2, every, KNOWN)
    assert found.rows.origin is origin
    np.testing.assert_allclose(read(found).inputs, np.concatenate([BASE[:9], NEW[:2]]), atol=1e-6)
    assert sorted(found.sketches) == sorted(sketches(read(found).inputs))


def test_rows_outside_the_known_range_are_listed(tmp_path: Path) -> None:
    base, far = BASE.copy(), NEW.copy()
    base[[3, 5, 6], [0, 1, 2]] = [3e38, 22, -22]
    far[1, :2], far[2, 3] = -3e38, 21
    log = ChangeLog(tmp_path)
    log.append([put("row-5", NEW[0]), put("row-1", NEW[3]), put("far", far[1]), put("near", far[2])])
    log.close()
    rows = ChampionRows(made_rows(base, batch=3), "base", 10, hashlib.sha256(base.tobytes()).hexdigest())
    found = take_snapshot(rows, tmp_path, 4, every, KNOWN)
    told = read(found)
    assert [told.ids[place] for place in found.outside] == ["row-3", "row-6", "far"]
    assert [(one.id, one.column, one.value) for one in found.clipped.values] == [
        ("far", 0, -3e38),
        ("far", 1, -3e38),
        ("row-3", 0, 3e38),
        ("row-6", 2, -22),
    ]
    assert found.clipped.count == 4
