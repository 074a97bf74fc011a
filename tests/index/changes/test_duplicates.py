"""Near-duplicates compared with SciPy's single linkage, and hand-made pairs."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.changes.collection import Collection
from lookalike.index.changes.duplicates import Duplicates, near_duplicates
from lookalike.index.errors import QueryError
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from tests.factories import cloud, encoder_at, made_rows


def version_of(rows: NDArray[np.float32], folder: Path, metric: Metric = "l2") -> Collection:
    """A collection of items whose embeddings are the rows themselves."""
    store = Store(folder / "store")
    number = build(made_rows(rows), encoder_at(folder / "encoder", np.eye(rows.shape[1], dtype=np.float32)), store,
                   metric=metric, target=Target(key="Flat"), device="cpu")  # fmt: skip
    return Collection(store.open(number))


def parts(found: Duplicates) -> set[frozenset[str]]:
    return {frozenset(group.ids) for group in found.groups}


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 0.6])
def test_groups_are_those_of_single_linkage(tmp_path: Path, threshold: float) -> None:
    rows = cloud(6_000, 3)  # in several blocks
    rows[::6] = rows[1::6]
    labels = fcluster(linkage(rows.astype(np.float64), "single"), threshold, "distance")
    wanted = [np.flatnonzero(labels == label) for label in np.flatnonzero(np.bincount(labels) > 1)]
    found = near_duplicates(version_of(rows, tmp_path), threshold)
    assert parts(found) == {frozenset(f"row-{place}" for place in part) for part in wanted}
    assert [len(group.ids) for group in found.groups] == sorted(map(len, wanted), reverse=True)


def test_a_chain_is_one_group_and_scores_are_to_its_first(tmp_path: Path) -> None:
    rows = np.array([[0, 0], [3, 0], [6, 0], [20, 0], [20, 4]], np.float32)
    found = near_duplicates(version_of(rows, tmp_path), 3.0)
    assert [(group.ids, group.scores) for group in found.groups] == [(["row-0", "row-1", "row-2"], [0.0, 3.0, 6.0])]
    assert parts(near_duplicates(version_of(rows, tmp_path / "again"), 2.999)) == set()


def test_under_cosine_the_angle_counts_and_not_the_length(tmp_path: Path) -> None:
    degrees = np.radians([0, 10, 40, 90])
    rows = (np.stack([np.cos(degrees), np.sin(degrees)], axis=1) * [[1], [100], [3], [0.1]]).astype(np.float32)
    version = version_of(rows, tmp_path, "cosine")
    ten, thirty = (math.cos(math.radians(angle)) for angle in (10, 30))
    near = near_duplicates(version, ten - 1e-5)
    assert [group.ids for group in near.groups] == [["row-0", "row-1"]]
    assert near.groups[0].scores == pytest.approx([1.0, ten])
    assert parts(near_duplicates(version, ten + 1e-5)) == set()
    assert parts(near_duplicates(version, thirty - 1e-5)) == {frozenset({"row-0", "row-1", "row-2"})}
    assert len(near_duplicates(version, -1.0).groups[0].ids) == 4


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_copies_are_found_at_every_threshold(tmp_path: Path, metric: Metric) -> None:
    rows = cloud(500, 8)
    rows[100:400] = rows[7]
    version = version_of(rows, tmp_path, metric)
    copies = {frozenset(["row-7", *(f"row-{place}" for place in range(100, 400))])}
    assert parts(near_duplicates(version, 1.0 if metric == "cosine" else 0.0)) == copies
    assert parts(near_duplicates(version)) == copies


def test_the_automatic_threshold_finds_pairs_that_are_not_due_to_chance(tmp_path: Path) -> None:
    rows = cloud(2_000, 16)
    rows[1_000:1_020] = rows[:20] + 0.01 * cloud(20, 16, seed=1)
    found = near_duplicates(version_of(rows, tmp_path))
    assert parts(found) == {frozenset({f"row-{place}", f"row-{place + 1_000}"}) for place in range(20)}
    assert parts(near_duplicates(version_of(rows, tmp_path / "again"), found.threshold)) == parts(found)


def test_one_item_has_no_duplicate(tmp_path: Path) -> None:
    assert near_duplicates(version_of(cloud(1, 4), tmp_path)).groups == []


@pytest.mark.parametrize(
    ("metric", "threshold", "expected"),
    [
        ("cosine", 1.001, r"cosine similarity within \[-1, 1\]"),
        ("cosine", math.nan, "cosine similarity"),
        ("l2", -0.1, r"Euclidean distance within \[0, inf\]"),
        ("l2", math.inf, "Euclidean distance"),
    ],
)
def test_a_threshold_that_no_score_can_have_is_refused(
    tmp_path: Path, metric: Metric, threshold: float, expected: str
) -> None:
    with pytest.raises(QueryError, match=f"threshold: expected auto, or a {expected}"):
        near_duplicates(version_of(cloud(5, 2), tmp_path, metric), threshold)
