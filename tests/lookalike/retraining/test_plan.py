"""Plans of retrainings of a tiny store of digits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike.data import open_inputs
from lookalike.index.changes.importing import import_rows
from lookalike.index.versions.store import Store
from lookalike.retraining.plan import RetrainOptions, make_plan
from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows, read_sample
from tests.factories import log_changes, put
from tests.photos import COLORS, photo, photo_store

TEST = read_sample(open_rows("digits:test"), 360, seed=0)[0]


def test_leaves_out_and_names_rows_far_outside_the_known_range(store_copy: Store) -> None:
    rows = TEST[:200].copy()
    rows[[7, 9], [0, 63]] = [3e38, -1e9]
    last = log_changes(store_copy.folder, *(put(f"new-{i}", row) for i, row in enumerate(rows)))
    champion = store_copy.open_champion()
    plan = make_plan(RetrainOptions(store_copy, device="cpu"), champion, last)
    ids = [name for chunk in plan.collection.rows.chunks() for name in chunk.ids]
    assert [ids[place] for place in plan.collection.outside] == ["new-7", "new-9"]
    assert not np.isin(plan.collection.outside, plan.held).any()
    found = plan.summary
    assert (found.rows, found.outside, found.outside_first) == (1_637, 2, ["new-7", "new-9"])
    [line] = [line for line in plan.lines() if line.startswith("left out")]
    assert "2 (row new-7, column 0: 3e+38 (known: " in line
    assert "row new-9, column 63: -1e+09 (known: " in line


def test_a_plan_without_outside_rows_does_not_mention_them(store_copy: Store) -> None:
    plan = make_plan(RetrainOptions(store_copy, device="cpu"), store_copy.open_champion(), 0)
    assert (plan.summary.outside, plan.summary.outside_first) == (0, [])
    assert not any(line.startswith("left out") for line in plan.lines())
    assert "held out of both trainings: 144" in plan.lines()
    few = replace(plan, held=plan.held[:99])
    assert "held out of both trainings: 99, too few to judge: 100 are needed" in few.lines()


def test_new_photos_in_the_champions_folder_are_used_once_they_are_imported(tmp_path: Path) -> None:
    store = photo_store(tmp_path)
    photos = tmp_path / "photos"
    for name in ("0-new.png", "zz-new.png"):
        (photos / name).write_bytes(photo((9, 99, 199)))
    (photos / "empty.png").touch()
    options = RetrainOptions(store, device="cpu")
    plan = make_plan(options, store.open_champion(), 0)
    assert (plan.gained, plan.summary.rows) == (2, len(COLORS))
    assert f"{photos} has 2 new rows since the build: only those that `lookalike import`" in "\n".join(plan.lines())

    done = import_rows(open_inputs(str(photos), store.open_champion().encoder.inputs), store)
    plan = make_plan(options, store.open_champion(), done.sequence)
    ids = [name for chunk in plan.collection.rows.chunks() for name in chunk.ids]
    assert sorted(ids) == sorted([*COLORS, "0-new.png", "zz-new.png"])
    (photos / next(iter(COLORS))).unlink()
    with pytest.raises(DataError, match="found other rows, and 1 more"):
        make_plan(options, store.open_champion(), done.sequence)
