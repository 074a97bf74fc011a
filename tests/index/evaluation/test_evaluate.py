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


def built(rows: Rows, folder: Path) -> Version:
    """A version of `rows` as they are, by Euclidean distance."""
    encoder = encoder_at(folder / "encoder", np.eye(rows.width, dtype=np.float32))
    store = Store(folder / "store")
    return store.open(build(rows, encoder, store, metric="l2", device="cpu"))


def labelled(labels: list[Any]) -> list[dict[str, Any]]:
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
def test_precision_among_the_others_by_hand(tmp_path: Path, labels: list[Any], precision: float | None) -> None:
    evaluated = evaluate(built(made_rows(LINE, payloads=labelled(labels)), tmp_path))
    assert evaluated.precision == (precision if precision is None else pytest.approx(precision))
    assert (evaluated.measured.queries, evaluated.measured.recall) == (4, 1.0)


def test_precision_of_rows_that_ask_by_hand(tmp_path: Path) -> None:
    """Twelve items on a line, so a query's ten hits leave out the two at the far end."""
    line = np.arange(12, dtype=np.float32)[:, None]
    version = built(made_rows(line, payloads=labelled(["a"] * 3 + ["b"] * 9)), tmp_path)
    queries = made_rows(np.array([[-1], [99], [-1]], np.float32), payloads=labelled(["a", "a", None]))
    evaluated = evaluate(version, queries)
    assert evaluated.precision == pytest.approx((3 / 10 + 1 / 10) / 2)
    assert evaluated.measured.queries == 3


def test_a_single_item_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    evaluated = evaluate(built(made_rows(LINE[:1], payloads=labelled(["a"])), tmp_path))
    assert (evaluated.measured.recall, evaluated.precision) == (1.0, None)


def test_precision_on_digits_is_what_scikit_learn_says(tmp_path: Path) -> None:
    """Of 360 rows the 36 ask that the index was measured with; no row finds itself."""
    chunk = next(open_rows("digits:test").chunks())
    labels = np.array([payload["label"] for payload in chunk.payloads])
    version = built(open_rows("digits:test"), tmp_path)
    asking = [chunk.ids.index(version.items.id_at(place)) for place in version.manifest.held]
    nearest = NearestNeighbors(n_neighbors=10).fit(chunk.inputs).kneighbors(return_distance=False)[asking]
    evaluated = evaluate(version)
    assert evaluated.precision == pytest.approx((labels[nearest] == labels[asking, None]).mean(), abs=1e-3)
    assert evaluated.measured.queries == 36


def test_rows_that_the_version_holds_are_counted(tiny_store: Store) -> None:
    version = tiny_store.open_champion()
    assert evaluate(version, open_rows("digits")).held >= 990  # of a thousand that ask
    assert evaluate(version, open_rows("digits:test")).held == 0
    assert evaluate(version).held == 0  # its items ask for others


def test_the_seed_chooses_which_rows_ask(tiny_store: Store) -> None:
    version, rows = tiny_store.open_champion(), open_rows("digits")
    first, same, other = (evaluate(version, rows, seed).precision for seed in (0, 0, 1))
    assert first == same != other


def test_no_more_than_a_thousand_ask(tiny_store: Store) -> None:
    assert evaluate(tiny_store.open_champion(), open_rows("digits")).measured.queries == 1_000
    assert evaluate(tiny_store.open_champion(), open_rows("digits:test")).measured.queries == 360


def test_rows_of_another_width_cannot_ask(tiny_store: Store) -> None:
    with pytest.raises(DataError, match="made: expected rows of shape"):
        evaluate(tiny_store.open_champion(), made_rows(cloud(3, 63)))


SIGNAL = np.hstack([cloud(1_500, 8), 0.01 * cloud(1_500, 8, seed=1)])
"""Eight columns that tell the rows apart, and eight that do not."""


def degraded(folder: Path, *, encoder: bool, index: bool) -> Version:
    """Of SIGNAL: an encoder that keeps what tells it apart, or what does not; an index that finds all, or little."""
    kept = np.eye(16, dtype=np.float32)[:, 8:] if encoder else np.eye(16, dtype=np.float32)[:, :8]
    target = Target(0.2, key="IVF40,Flat") if index else Target(key="Flat")
    store = Store(folder / "store")
    source = encoder_at(folder / "encoder", kept)
    return store.open(build(made_rows(SIGNAL), source, store, metric="l2", target=target, device="cpu"))


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("encoder", [False, True])
def test_what_degrades_one_half_moves_that_one_alone(tmp_path: Path, encoder: bool, index: bool) -> None:
    told = evaluate(degraded(tmp_path, encoder=encoder, index=index))
    assert told.encoding is not None
    assert (told.encoding.neighbours.encoder < 0.3) == encoder
    assert (told.encoding.neighbours.encoder > 0.9) == (not encoder)
    assert (told.measured.recall < 0.8) == index
    assert (told.measured.recall == 1.0) == (not index)
    assert ("retrain" in told.advice) == encoder
    assert ("raise the target" in told.advice) == index
