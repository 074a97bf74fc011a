"""Versions without a trained encoder, from files to hits, compared with numpy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from lookalike.encoders import open_for_build
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.changes.duplicates import near_duplicates
from lookalike.index.changes.exporting import export
from lookalike.index.changes.importing import import_rows
from lookalike.index.errors import QueryError, StoreError
from lookalike.index.evaluation.evaluate import evaluate
from lookalike.index.items.filters import read_filter
from lookalike.index.versions.build import build
from lookalike.index.versions.consistency_check import check_consistency
from lookalike.index.versions.store import Store
from lookalike.retraining.plan import RetrainOptions
from lookalike.retraining.run import retrain
from lookalike.training.config import DataConfig
from lookalike.training.errors import ArtifactError, DataError
from lookalike.training.rows import open_rows
from lookalike.training.transforms import InputSpec
from tests.factories import cloud
from tests.lookalike.helpers import run
from tests.onnx_graphs import linear, save_graph

VECTORS = cloud(300, 6)
LABELS = (VECTORS[:, 0] > 0).astype(int)
SPEC = InputSpec(vectors=True)


def saved(path: Path, vectors: NDArray[np.float32], first: int = 0) -> Path:
    numbers = range(first, first + len(vectors))
    payloads = [
        json.dumps({"label": int(vector[0] > 0), "number": n}) for n, vector in zip(numbers, vectors, strict=True)
    ]
    np.savez(path, embeddings=vectors, ids=np.array([f"v{n}" for n in numbers]), payloads=np.array(payloads))
    return path


def built(store: Store, data: Path, encoder: str = "none", metric: Metric = "cosine", key: str | None = "Flat") -> int:
    with open_for_build(str(data), encoder, metric) as (rows, folder):
        return build(rows, folder, store, metric=metric, target=Target(key=key), device="cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one version of the vectors, the champion. Read only."""
    folder = tmp_path_factory.mktemp("vectors")
    store = Store(folder / "store")
    store.promote(built(store, saved(folder / "vectors.npz", VECTORS)))
    return store


@contextmanager
def refused(text: str) -> Iterator[None]:
    with pytest.raises(StoreError, match=text):
        yield


def cosines(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = [np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True) for each in (queries, vectors)]
    return np.asarray((queries / lengths[0]) @ (vectors / lengths[1]).T)


def test_finds_the_nearest_vectors(original: Store) -> None:
    version = original.open_champion()
    queries = cloud(9, 6, seed=5)
    found = version.searcher.search_rows(queries, 5)
    wanted = np.argsort(-cosines(queries, VECTORS), axis=1)[:, :5]
    assert [[version.items.id_at(p) for p in row] for row in found.positions] == [
        [f"v{n}" for n in row] for row in wanted.tolist()
    ]
    assert version.manifest.evidence.recall == 1
    assert version.manifest.evidence.queries == 30  # a tenth is held out
    filtered = version.searcher.search_rows(queries, 300, read_filter({"field": "label", "equal": 1}))
    assert int((filtered.positions >= 0).sum()) == len(queries) * LABELS.sum()


def test_novelty_is_by_distance_alone(original: Store) -> None:
    version = original.open_champion()
    assert not version.novelty.rows[:, 0].any()
    usual = version.searcher.search_rows(cloud(200, 6, seed=8), 5).novelty
    assert 0.3 < usual.mean() < 0.7  # uniform from 0 to 1
    same = version.searcher.search(version.embed(VECTORS[:3]), 5).novelty
    assert np.array_equal(version.searcher.search_rows(VECTORS[:3], 5).novelty, same)


def test_a_vector_far_from_all_others_is_novel(tmp_path: Path) -> None:
    store, near = Store(tmp_path / "store"), VECTORS + 50
    store.promote(built(store, saved(tmp_path / "near.npz", near), metric="l2"))
    version = store.open_champion()
    novelty = version.searcher.search_rows(np.stack([np.zeros(6, np.float32), near[0]]), 5).novelty
    assert novelty[0] == pytest.approx(1 / 31)  # the least with 30 rows held out
    assert novelty[1] > novelty[0]


def test_is_consistent_and_evaluated_without_an_encoder(original: Store) -> None:
    version = original.open_champion()
    assert check_consistency(version).holds
    assert version.answers_canary()
    result = evaluate(version, seed=0)
    assert (result.measured.recall, result.encoding, result.recovered) == (1, None, None)
    assert result.precision is not None
    assert "retrain" not in result.advice


def test_further_vectors_are_imported_compacted_and_exported(original: Store, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.promote(built(store, saved(tmp_path / "vectors.npz", VECTORS)))
    more = cloud(40, 6, seed=2)
    rows = open_rows(str(saved(tmp_path / "more.npz", more, first=290)), spec=SPEC)  # replaces v290 to v299
    assert import_rows(rows, store).rows == 40
    collection = open_collection(store, 1)
    assert collection.items.ids_at(collection.searcher.search_rows(more[:1], 1).positions[0].tolist()) == ["v290"]
    assert not near_duplicates(collection, 0.999999).groups
    compact(store)
    assert store.champion_number() == 2
    version = store.open_champion()
    assert (len(version.items), version.encoder.kind, bool(version.novelty.rows[:, 0].any())) == (330, "none", False)
    export(store, tmp_path / "all.parquet")
    table = pq.read_table(tmp_path / "all.parquet")
    again = Store(tmp_path / "again")
    again.promote(built(again, tmp_path / "all.parquet"))
    other = again.open_champion()
    assert sorted(other.items.id_at(n) for n in range(330)) == sorted(table["id"].to_pylist())
    assert other.items.payload_at(other.items.positions(["v295"])[0]) == {"label": int(more[5, 0] > 0), "number": 295}


def test_what_needs_an_encoder_is_refused_with_a_remedy(original: Store) -> None:
    version = original.open_champion()
    assert version.inputs is None
    assert not (version.sealed.folder / "inputs.npy").exists()
    with pytest.raises(QueryError, match="expected a version with an encoder, found a version of existing embeddings"):
        version.check_embeds()
    why = run("why", "v1", "v2", "--store", original.folder)
    assert why.code == 2
    assert "expected a version with an encoder, found a version of existing embeddings" in why.err
    with refused("found a version of existing embeddings. Train an encoder with `lookalike train`"):
        retrain(RetrainOptions(original))


def test_a_row_that_cannot_be_compared_is_named(tmp_path: Path) -> None:
    store, vectors = Store(tmp_path / "store"), VECTORS[:50].copy()
    vectors[7] = 0
    data = saved(tmp_path / "zeros.npz", vectors)
    with pytest.raises(
        DataError, match=r"row 7, id 'v7': .* found zeros only\. Remove the row, or build with --metric l2"
    ):
        built(store, data)
    assert built(store, data, metric="l2") == 1
    store.promote(1)
    assert import_rows(open_rows(str(data), spec=SPEC), store).rows == 50
    vectors[7, 2] = np.nan
    with pytest.raises(DataError, match="row 7, column 2: expected a finite number"):
        built(store, saved(tmp_path / "nan.npz", vectors))


def test_imports_no_vector_of_zeros(original: Store, tmp_path: Path) -> None:
    vectors = VECTORS[:3].copy()
    vectors[2] = 0
    rows = open_rows(str(saved(tmp_path / "zeros.npz", vectors)), spec=SPEC)
    with pytest.raises(DataError, match="row 2, id 'v2': expected a vector that can be compared by its direction"):
        import_rows(rows, original)


def test_an_import_reads_the_same_columns(tmp_path: Path) -> None:
    vectors = pa.array(VECTORS.tolist())
    table = pa.table({"other": pa.array((-VECTORS).tolist()), "vector": vectors, "key": [f"v{n}" for n in range(300)]})
    pq.write_table(table, tmp_path / "v.parquet")
    store = Store(tmp_path / "store")
    settings = DataConfig(columns=("other",), id="key")
    with open_for_build(str(tmp_path / "v.parquet"), "none", "l2", settings) as (rows, folder):
        store.promote(build(rows, folder, store, metric="l2", target=Target(key="Flat"), device="cpu"))
    version = store.open_champion()
    assert np.array_equal(version.embeddings.at(version.items.positions(["v7"])), -VECTORS[7:8])
    (chunk,) = open_rows(str(tmp_path / "v.parquet"), spec=version.encoder.inputs).chunks(300)
    assert np.array_equal(chunk.inputs, -VECTORS)
    assert chunk.ids[7] == "v7"


def test_vectors_of_another_length_are_refused(original: Store, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", cloud(5, 7))
    with pytest.raises(DataError, match=r"expected rows of shape \(6,\) \(6 values\).*, found \(7,\)"):
        import_rows(open_rows(str(tmp_path / "other.npy"), spec=SPEC), original)


def test_the_tuner_chooses_an_index_for_vectors(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    number = built(store, saved(tmp_path / "vectors.npz", VECTORS), key=None)
    assert store.manifest(number).evidence.recall >= 0.95
    assert store.manifest(number).tuning.trials


def test_an_onnx_model_embeds_rows(tmp_path: Path) -> None:
    matrix = cloud(6, 4, seed=3)
    model = save_graph(tmp_path / "model.onnx", linear(matrix))
    np.save(tmp_path / "rows.npy", VECTORS)
    store = Store(tmp_path / "store")
    store.promote(built(store, tmp_path / "rows.npy", str(model)))
    version = store.open_champion()
    queries = cloud(5, 6, seed=5)
    found = version.searcher.search_rows(queries, 3)
    wanted = np.argsort(-cosines(queries @ matrix, VECTORS @ matrix), axis=1)[:, :3]
    assert [[int(version.items.id_at(p)) for p in row] for row in found.positions] == wanted.tolist()
    assert version.answers_canary()
    assert not version.novelty.rows[:, 0].any()
    result = evaluate(version)
    assert result.encoding is not None
    assert "retrain" not in result.advice
    np.save(tmp_path / "more.npy", cloud(7, 6, seed=4))
    assert import_rows(open_rows(str(tmp_path / "more.npy"), spec=version.encoder.inputs), store).rows == 7
    compact(store)
    assert store.open_champion().encoder.digest == version.encoder.digest
    with refused("found a version with an ONNX model"):
        retrain(RetrainOptions(store))


def test_a_failed_build_writes_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", VECTORS)
    store = Store(tmp_path / "store")
    (tmp_path / "bad.onnx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ArtifactError, match=r"bad\.onnx"):
        built(store, tmp_path / "rows.npy", str(tmp_path / "bad.onnx"))
    with pytest.raises(ArtifactError, match="expected the folder of a run or of an encoder"):
        built(store, tmp_path / "rows.npy", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="as the model reads them"):
        built(store, tmp_path / "rows.npy", str(save_graph(tmp_path / "model.onnx", linear(cloud(5, 4)))))
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store" / "versions").glob("0*"))
