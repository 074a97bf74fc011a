import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from index.build import build, encoder_folder
from index.spec import IndexSpec, Metric
from index.store import Store
from index.vectors import normalize
from index.version import Version
from tests.index.made import cloud, encoder_at, made_rows
from training.errors import ArtifactError, DataError
from training.rows import Rows, open_rows, read_sample

BUILDER = """
import sys
from pathlib import Path
from index.build import build
from index.store import Store
from training.rows import open_rows
rows, encoder, store = open_rows(sys.argv[1]), Path(sys.argv[2]), Store(Path(sys.argv[3]))
for _ in range(3):
    number = build(rows, encoder, store, device="cpu")
    store.promote(number)
    print(number)
"""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact that maps (n, 6) to itself."""
    return encoder_at(tmp_path_factory.mktemp("encoder") / "encoder", np.eye(6, dtype=np.float32))


def built(rows: Rows, encoder: Path, folder: Path, **choices: Any) -> Version:
    store = Store(folder)
    return store.open(build(rows, encoder, store, device="cpu", **choices))


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("count", [1, 2, 9, 10, 300])
@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_every_row_is_found_by_its_id_at_its_embedding(
    encoder: Path, tmp_path: Path, metric: Metric, count: int
) -> None:
    inputs = cloud(count, 6)
    version = built(made_rows(inputs, batch=64), encoder, tmp_path, metric=metric)
    places = np.array([version.items.position(f"row-{i}") for i in range(count)])
    assert sorted(places) == list(range(count))
    wanted = normalize(inputs) if metric == "cosine" else inputs
    np.testing.assert_allclose(version.index.reconstruct(places), wanted, atol=1e-6)
    assert [version.items.payload_at(int(p)) for p in places] == [{"number": i} for i in range(count)]
    assert version.answers_its_question()


@pytest.mark.parametrize(("count", "queries"), [(1, 1), (9, 9), (10, 1), (25, 2), (300, 30), (10_010, 1_000)])
def test_the_evidence_is_from_a_tenth_of_the_rows_or_from_all_of_a_few(
    encoder: Path, tmp_path: Path, count: int, queries: int
) -> None:
    evidence = built(made_rows(cloud(count, 6)), encoder, tmp_path, kind="flat").manifest["evidence"]
    assert (evidence["recall"], evidence["k"], evidence["queries"]) == (1.0, 10, queries)
    assert evidence["latency_us"] > 0


def independent_recall(base: NDArray[np.float32], queries: NDArray[np.float32], spec: IndexSpec) -> float:
    graph = faiss.IndexHNSWFlat(base.shape[1], spec.m, faiss.METRIC_L2)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = spec.ef_construction, spec.ef_search
    graph.add(base)
    found = np.concatenate([graph.search(query[None], 11)[1] for query in queries])[:, :10]
    truth = np.argsort(((queries[:, None].astype(np.float64) - base[None]) ** 2).sum(axis=2), axis=1)[:, :10]
    return sum(len(set(row) & set(best)) for row, best in zip(found, truth, strict=True)) / truth.size


def test_recall_is_measured_with_rows_that_the_index_does_not_hold_yet(tmp_path: Path) -> None:
    wide = encoder_at(tmp_path / "encoder", np.eye(128, dtype=np.float32))
    version = built(made_rows(cloud(1_500, 128)), wide, tmp_path / "store", metric="l2", kind="hnsw")
    vectors = version.index.reconstruct(np.arange(1_500))  # what was held out stands last
    recall = version.manifest["evidence"]["recall"]
    assert recall == pytest.approx(independent_recall(vectors[:-150], vectors[-150:], version.index.spec), abs=1e-12)
    assert recall < 1


def test_rows_of_every_part_are_held_out(encoder: Path, tmp_path: Path) -> None:
    version = built(made_rows(cloud(1_000, 6), batch=90), encoder, tmp_path)
    indexed, held = ([version.items.payload_at(i)["number"] for i in part] for part in (range(900), range(900, 1_000)))
    assert indexed == sorted(indexed)
    assert np.histogram(held, bins=5, range=(0, 1_000))[0].min() > 0


def test_the_manifest_says_what_the_version_is_of(encoder: Path, tmp_path: Path) -> None:
    inputs = cloud(40, 6)
    header = built(made_rows(inputs, batch=7), encoder, tmp_path, metric="ip", kind="hnsw").manifest
    digest = hashlib.sha256(inputs.tobytes()).hexdigest()
    assert header["data"] == {"name": "made", "rows": 40, "shape": [6], "sha256": digest}
    assert (header["version"], header["items"], header["index"]["kind"], header["index"]["metric"]) == (
        1,
        40,
        "hnsw",
        "ip",
    )
    assert header["encoder"] == hashlib.sha256((encoder / "manifest.json").read_bytes()).hexdigest()


def test_the_known_question_is_the_first_row(encoder: Path, tmp_path: Path) -> None:
    inputs = np.diag(np.arange(1, 7)).astype(np.float32)
    version = built(made_rows(inputs, batch=2), encoder, tmp_path, metric="l2")
    assert np.array_equal(version.question, inputs[:1])
    assert version.manifest["answer"]["ids"] == ["row-0", "row-1", "row-2"]
    np.testing.assert_allclose(version.manifest["answer"]["scores"], [0, 5**0.5, 10**0.5], rtol=1e-6)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_rows_that_are_all_the_same_make_a_version_that_can_be_promoted(
    encoder: Path, tmp_path: Path, kind: Any
) -> None:
    version = built(made_rows(np.ones((100, 6), np.float32)), encoder, tmp_path, kind=kind)
    assert version.manifest["evidence"]["recall"] == 1.0
    assert Store(tmp_path).promote(1).version == 1


def test_the_same_build_twice_gives_the_same_files(encoder: Path, tmp_path: Path) -> None:
    rows = made_rows(cloud(200, 6), batch=64)
    first, second = (built(rows, encoder, tmp_path, kind="hnsw") for _ in range(2))
    assert (first.number, second.number) == (1, 2)
    assert first.sealed.files == second.sealed.files


def test_the_trained_encoder_embeds_the_digits_it_indexes(tiny_store: Store) -> None:
    version = tiny_store.open_champion()
    rows, labels = read_sample(open_rows("digits"), 2_000, seed=0)
    names = [name for chunk in open_rows("digits").chunks() for name in chunk.ids]
    places = np.array([version.items.position(name) for name in names])
    np.testing.assert_allclose(version.index.reconstruct(places), version.embed(rows), atol=1e-6)
    assert [version.items.payload_at(int(p))["label"] for p in places] == labels


def bad_value() -> Rows:
    inputs = cloud(60, 6)
    inputs[40, 2] = np.nan
    return made_rows(inputs, batch=16)


def id_twice() -> Rows:
    return made_rows(cloud(60, 6), ids=["twice" if i in (3, 50) else str(i) for i in range(60)], batch=16)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (bad_value(), "made, row 40, column 2"),
        (id_twice(), "made, id 'twice'"),
        (made_rows(cloud(60, 6), ids=["good"] * 59 + ["bad\n"]), r"made, id 'bad\\n'"),
        (made_rows(cloud(2, 6), payloads=[{}, {"x": float("nan")}]), "made, payload of 'row-1'"),
        (made_rows(cloud(5, 7)), r"made: expected rows of shape \(6,\)"),
        (made_rows(np.empty((0, 6), np.float32)), "made: expected at least one row"),
    ],
    ids=["value", "id twice", "id", "payload", "width", "no rows"],
)
@pytest.mark.parametrize("earlier", [0, 1])
def test_a_build_that_fails_leaves_the_store_as_it_was(
    encoder: Path, tmp_path: Path, earlier: int, rows: Rows, told: str
) -> None:
    store = Store(tmp_path)
    for _ in range(earlier):
        build(made_rows(cloud(20, 6)), encoder, store, device="cpu")
    before = [path for path in files_in(tmp_path) if path != store.versions]
    with pytest.raises(DataError, match=told):
        build(rows, encoder, store, device="cpu")
    assert [path for path in files_in(tmp_path) if path != store.versions] == before
    assert build(made_rows(cloud(20, 6)), encoder, store, device="cpu") == earlier + 1


def test_a_damaged_encoder_builds_nothing(encoder: Path, tmp_path: Path) -> None:
    damaged = encoder_at(tmp_path / "encoder", cloud(6, 3))
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"weights\.safetensors"):
        build(made_rows(cloud(20, 6)), damaged, Store(tmp_path / "store"), device="cpu")
    assert not (tmp_path / "store").exists()


def test_an_encoder_is_named_by_its_run_or_by_itself(tiny_run: Path, tmp_path: Path) -> None:
    assert encoder_folder(tiny_run) == encoder_folder(tiny_run / "encoder") == tiny_run / "encoder"
    with pytest.raises(ArtifactError, match="lookalike train"):
        encoder_folder(tmp_path / "none")


def test_processes_that_build_and_promote_at_once_take_turns(encoder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", cloud(30, 6))
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "rows.npy"), str(encoder), str(tmp_path / "store")]
    here = Path(__file__).parents[2]
    running = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=here, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        for _ in range(2)
    ]
    printed = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(int(number) for numbers in printed for number in numbers) == [1, 2, 3, 4, 5, 6]
    store = Store(tmp_path / "store")
    assert store.numbers() == [1, 2, 3, 4, 5, 6]
    assert [store.open(number).number for number in store.numbers()] == store.numbers()
    alias = store.champion()
    assert alias is not None
    assert sorted((*alias.replaced, alias.version)) == store.numbers()
