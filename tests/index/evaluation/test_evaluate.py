from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann.target import Target
from lookalike.index.evaluation.evaluate import evaluate
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.errors import DataError
from lookalike.training.rows import Rows, open_rows
from tests.factories import cloud, encoder_at, made_rows

LINE = np.array([[0], [1], [10], [11]], np.float32)


def build_version(rows: Rows, folder: Path) -> Version:
    """A version whose embeddings are the rows themselves, with Euclidean distance."""
    encoder = encoder_at(folder / "encoder", np.eye(rows.width, dtype=np.float32))
    store = Store(folder / "store")
    return store.open(build(rows, encoder, store, metric="l2", device="cpu"))


def with_labels(labels: list[Any]) -> list[dict[str, Any]]:
    return [{} if label is None else {"label": label} for label in labels]


@pytest.mark.parametrize(
    ("labels", "precision"),
    [
        (["a", "a", "a", "a"], 1.0),
        (["a", "b", "c", "d"], 0.0),
        (["a", "a", "b", "b"], 1 / 3),
        (["a", "a", "b", None], 2 / 9),
        ([7, 7, 7, None], 2 / 3),
        ([None, None, None, None], None),
    ],
)
def test_precision_without_the_row_itself(tmp_path: Path, labels: list[Any], precision: float | None) -> None:
    evaluated = evaluate(build_version(made_rows(LINE, payloads=with_labels(labels)), tmp_path))
    assert evaluated.precision == (precision if precision is None else pytest.approx(precision))
    assert (evaluated.measured.queries, evaluated.measured.recall) == (4, 1.0)


def test_precision_of_query_rows(tmp_path: Path) -> None:
    """Twelve items on a line: the ten hits of a query leave out the two at the far end."""
    line = np.arange(12, dtype=np.float32)[:, None]
    version = build_version(made_rows(line, payloads=with_labels(["a"] * 3 + ["b"] * 9)), tmp_path)
    queries = made_rows(np.array([[-1], [99], [-1]], np.float32), payloads=with_labels(["a", "a", None]))
    evaluated = evaluate(version, queries)
    assert evaluated.precision == pytest.approx((3 / 10 + 1 / 10) / 2)
    assert evaluated.measured.queries == 3


def test_a_single_item_has_no_precision(tmp_path: Path) -> None:
    evaluated = evaluate(build_version(made_rows(LINE[:1], payloads=with_labels(["a"])), tmp_path))
    assert (evaluated.measured.recall, evaluated.precision) == (1.0, None)


def test_precision_on_digits_agrees_with_scikit_learn(tmp_path: Path) -> None:
    """The queries are the 36 of 360 rows that the index was measured with; no row finds itself."""
    chunk = next(open_rows("digits:test").chunks())
    labels = np.array([payload["label"] for payload in chunk.payloads])
    version = build_version(open_rows("digits:test"), tmp_path)
    positions = [chunk.ids.index(version.items.id_at(place)) for place in version.manifest.held]
    nearest = NearestNeighbors(n_neighbors=10).fit(chunk.inputs).kneighbors(return_distance=False)[positions]
    evaluated = evaluate(version)
    assert evaluated.precision == pytest.approx((labels[nearest] == labels[positions, None]).mean(), abs=1e-3)
    assert evaluated.measured.queries == 36


def test_counts_queries_that_are_items_of_the_version(tiny_store: Store) -> None:
    version = tiny_store.open_champion()
    assert evaluate(version, open_rows("digits")).held >= 990  # of a thousand queries
    assert evaluate(version, open_rows("digits:test")).held == 0
    assert evaluate(version).held == 0  # items do not find themselves


def test_the_seed_chooses_the_queries(tiny_store: Store) -> None:
    version, rows = tiny_store.open_champion(), open_rows("digits")
    first, same, other = (evaluate(version, rows, seed).precision for seed in (0, 0, 1))
    assert first == same != other


def test_uses_at_most_a_thousand_queries(tiny_store: Store) -> None:
    assert evaluate(tiny_store.open_champion(), open_rows("digits")).measured.queries == 1_000
    assert evaluate(tiny_store.open_champion(), open_rows("digits:test")).measured.queries == 360


def test_refuses_rows_of_another_width(tiny_store: Store) -> None:
    with pytest.raises(DataError, match="made: expected rows of shape"):
        evaluate(tiny_store.open_champion(), made_rows(cloud(3, 63)))


SIGNAL = np.hstack([cloud(1_500, 8), 0.01 * cloud(1_500, 8, seed=1)])
"""Eight columns that distinguish the rows, and eight that do not."""


def degraded(folder: Path, *, encoder: bool, index: bool) -> Version:
    """A version of SIGNAL whose encoder keeps the wrong columns if `encoder`, and whose index is poor if `index`."""
    columns = np.eye(16, dtype=np.float32)[:, 8:] if encoder else np.eye(16, dtype=np.float32)[:, :8]
    target = Target(0.2, key="IVF40,Flat") if index else Target(key="Flat")
    store = Store(folder / "store")
    source = encoder_at(folder / "encoder", columns)
    return store.open(build(made_rows(SIGNAL), source, store, metric="l2", target=target, device="cpu"))


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("encoder", [False, True])
def test_a_worse_encoder_or_index_changes_only_its_own_figures(tmp_path: Path, encoder: bool, index: bool) -> None:
    result = evaluate(degraded(tmp_path, encoder=encoder, index=index))
    assert result.encoding is not None
    assert (result.encoding.neighbours.encoder < 0.3) == encoder
    assert (result.encoding.neighbours.encoder > 0.9) == (not encoder)
    assert (result.measured.recall < 0.8) == index
    assert (result.measured.recall == 1.0) == (not index)
    assert ("retrain" in result.advice) == encoder
    assert ("raise the target" in result.advice) == index
