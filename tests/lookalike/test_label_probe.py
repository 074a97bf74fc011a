from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import label_probe
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.label_probe import probe_version
from lookalike.training.errors import DataError
from lookalike.training.evaluation.probe import probe
from lookalike.training.rows import Rows, open_rows
from tests.factories import blobs, encoder_at, made_rows

ROWS = blobs()
LABELS = [i % 3 for i in range(60)]


def with_labels(labels: list[Any]) -> list[dict[str, Any]]:
    return [{} if label is None else {"label": label} for label in labels]


def built_version(rows: Rows, folder: Path) -> Version:
    """A version whose embeddings are `rows` themselves, with Euclidean distance."""
    encoder = encoder_at(folder / "encoder", np.eye(rows.width, dtype=np.float32))
    store = Store(folder / "store")
    return store.open(build(rows, encoder, store, metric="l2", device="cpu"))


def test_trains_probes_on_items_and_tests_them_on_other_rows(tmp_path: Path) -> None:
    version = built_version(made_rows(ROWS[:45], payloads=with_labels(LABELS[:45])), tmp_path)
    probed = probe_version(version, made_rows(ROWS[45:], payloads=with_labels(LABELS[45:])))
    assert probed == probe(ROWS[:45], LABELS[:45], ROWS[45:], LABELS[45:])
    assert probed is not None
    assert probed.neighbours == {"accuracy": 1.0}


def test_returns_none_without_labels(tmp_path: Path) -> None:
    unlabeled, queries = made_rows(ROWS[:45]), made_rows(ROWS[45:], payloads=with_labels(LABELS[45:]))
    assert probe_version(built_version(unlabeled, tmp_path / "unlabeled"), queries) is None
    labeled = built_version(made_rows(ROWS[:45], payloads=with_labels(LABELS[:45])), tmp_path / "labeled")
    assert probe_version(labeled, made_rows(ROWS[45:])) is None


def test_samples_many_items_and_rows_by_the_seed(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_probe, "MAX_SAMPLES", 100)
    version = tiny_store.open_champion()
    one, same, other = (probe_version(version, open_rows("digits:test"), seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_refuses_rows_of_a_different_width(tiny_store: Store) -> None:
    with pytest.raises(DataError, match="expected rows of shape"):
        probe_version(tiny_store.open_champion(), made_rows(ROWS))
