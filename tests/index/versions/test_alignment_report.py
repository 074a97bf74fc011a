from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.versions.alignment import ALIGNMENT, load_maps
from lookalike.index.versions.alignment_report import write_alignment
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.artifact.encoder import Encoder, load_encoder
from tests.factories import cloud, encoder_at, made_rows

WIDTH, DIM = 6, 4
ROWS, HELD = cloud(400, WIDTH), cloud(50, WIDTH, seed=1)
OLD = cloud(WIDTH, DIM, seed=2)


def parent(folder: Path, metric: Metric = "l2") -> Version:
    store = Store(folder / "store")
    at = encoder_at(folder / "old", OLD)
    return store.open(build(made_rows(ROWS), at, store, metric=metric, target=Target(key="Flat"), device="cpu"))


def other(folder: Path, matrix: NDArray[np.float32]) -> tuple[Encoder, Embeddings]:
    encoder = load_encoder(encoder_at(folder / "new", matrix))
    return encoder, Embeddings(encoder.encode(ROWS), "l2")


def test_a_rotated_space_is_mapped_with_full_recall(tmp_path: Path) -> None:
    turn = np.linalg.qr(cloud(DIM, DIM, seed=3))[0].astype(np.float32)
    encoder, embeddings = other(tmp_path, OLD @ turn)
    found = write_alignment(tmp_path, embeddings, encoder, parent(tmp_path), rows=ROWS, held=HELD)
    assert found is not None
    assert found.model_dump() == {
        "older": 1,
        "kind": "orthogonal",
        "fitted": 400,
        "recall": 1.0,
        "queries": 50,
        "churn": pytest.approx(0, abs=1e-9),
    }
    np.testing.assert_allclose(load_maps(tmp_path / ALIGNMENT, DIM)[1], turn, atol=1e-4)


def test_an_unrelated_space_is_mapped_with_low_recall(tmp_path: Path) -> None:
    matrix = cloud(WIDTH, DIM, seed=4)
    encoder, embeddings = other(tmp_path, matrix)
    found = write_alignment(tmp_path, embeddings, encoder, parent(tmp_path), rows=ROWS, held=HELD)
    moved = HELD @ OLD @ load_maps(tmp_path / ALIGNMENT, DIM)[1]
    wanted, got = (
        [set(np.argsort(np.linalg.norm(ROWS @ matrix - query, axis=1))[:10].tolist()) for query in queries]
        for queries in (HELD @ matrix, moved)
    )
    assert found is not None
    assert found.recall == pytest.approx(np.mean([len(a & b) / 10 for a, b in zip(wanted, got, strict=True)]))
    assert 0 < found.recall < 0.9
    near = [[np.argsort(np.linalg.norm(x - row, axis=1))[1:11] for row in x] for x in (ROWS @ OLD, ROWS @ matrix)]
    kept = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(*near, strict=True)])
    assert found.churn == pytest.approx(1 - kept, abs=1e-6)


def test_too_few_rows_make_no_map(tmp_path: Path) -> None:
    encoder, embeddings = other(tmp_path, OLD)
    found = write_alignment(tmp_path, embeddings, encoder, parent(tmp_path), rows=ROWS[:19], held=HELD)
    assert found is None
    assert not (tmp_path / ALIGNMENT).exists()
