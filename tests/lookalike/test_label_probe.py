from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import label_probe as probing
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


def labelled(labels: list[Any]) -> list[dict[str, Any]]:
    return [{} if label is None else {"label": label} for label in labels]


def built(rows: Rows, folder: Path) -> Version:
    """A version of `rows` as they are, by Euclidean distance."""
    encoder = encoder_at(folder / "encoder", np.eye(rows.width, dtype=np.float32))
    store = Store(folder / "store")
    return store.open(build(rows, encoder, store, metric="l2", device="cpu"))


def test_its_items_teach_and_other_rows_are_asked(tmp_path: Path) -> None:
    version = built(made_rows(ROWS[:45], payloads=labelled(LABELS[:45])), tmp_path)
    probed = probe_version(version, made_rows(ROWS[45:], payloads=labelled(LABELS[45:])))
    assert probed == probe(ROWS[:45], LABELS[:45], ROWS[45:], LABELS[45:])
    assert probed is not None
    assert probed.neighbours == {"accuracy": 1.0}


def test_without_labels_there_is_nothing_to_tell(tmp_path: Path) -> None:
    plain, told = made_rows(ROWS[:45]), made_rows(ROWS[45:], payloads=labelled(LABELS[45:]))
    assert probe_version(built(plain, tmp_path / "plain"), told) is None
    taught = built(made_rows(ROWS[:45], payloads=labelled(LABELS[:45])), tmp_path / "taught")
    assert probe_version(taught, made_rows(ROWS[45:])) is None


def test_many_items_and_rows_are_sampled_by_the_seed(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST", 100)
    version = tiny_store.open_champion()
    one, same, other = (probe_version(version, open_rows("digits:test"), seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_rows_of_another_width_cannot_ask(tiny_store: Store) -> None:
    with pytest.raises(DataError, match="expected rows of shape"):
        probe_version(tiny_store.open_champion(), made_rows(ROWS))
