"""Plans of retrainings of a tiny store of digits."""

from dataclasses import replace

import numpy as np

from lookalike.index.versions.store import Store
from lookalike.retraining.plan import RetrainOptions, make_plan
from lookalike.training.rows import open_rows, read_sample
from tests.factories import log_changes, put

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
