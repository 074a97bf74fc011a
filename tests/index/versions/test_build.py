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

from lookalike.index.ann.scores import normalize
from lookalike.index.ann.search_params import ROUNDS
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.errors import TargetError
from lookalike.index.versions.build import build, encoder_folder
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.errors import ArtifactError, ConfigError, DataError, LookalikeError
from lookalike.training.rows import Rows, open_rows, read_sample
from tests.factories import ROOT, cloud, encoder_at, made_rows

FLAT = Target(key="Flat")
BUILDER = """
import sys
from pathlib import Path
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.rows import open_rows
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


def files_of_versions(store: Store) -> list[Path]:
    return sorted(store.versions.rglob("*")) if store.versions.is_dir() else []


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
    np.testing.assert_allclose(version.embeddings.at(places), wanted, atol=1e-6)
    assert len(version.index) == count
    assert [version.items.payload_at(int(p)) for p in places] == [{"number": i} for i in range(count)]
    assert version.answers_canary()


@pytest.mark.parametrize(("count", "queries"), [(1, 1), (9, 9), (10, 1), (25, 2), (300, 30)])
def test_the_evidence_is_from_a_tenth_of_the_rows_or_from_all_of_a_few(
    encoder: Path, tmp_path: Path, count: int, queries: int
) -> None:
    evidence = built(made_rows(cloud(count, 6)), encoder, tmp_path, target=FLAT).manifest.evidence
    assert (evidence.recall, evidence.low, evidence.k, evidence.queries) == (1.0, 1.0, 10, queries)
    assert evidence.latency_us > 0


def independent_recall(base: NDArray[np.float32], queries: NDArray[np.float32], lists: int) -> float:
    """The recall of the 10 nearest items if one list is searched."""
    centers = faiss.IndexFlatL2(base.shape[1])
    index = faiss.IndexIVFFlat(centers, base.shape[1], lists, faiss.METRIC_L2)
    index.cp.min_points_per_centroid, index.cp.niter = 1, ROUNDS
    index.train(base)
    index.add(base)
    index.nprobe = 1
    found = np.concatenate([index.search(query[None], 10)[1] for query in queries])
    truth = np.argsort(((queries[:, None].astype(np.float64) - base[None]) ** 2).sum(axis=2), axis=1)[:, :10]
    return sum(len(set(row) & set(best)) for row, best in zip(found, truth, strict=True)) / truth.size


def test_recall_is_measured_with_rows_that_the_index_does_not_hold_yet(encoder: Path, tmp_path: Path) -> None:
    target = Target(0.01, key="IVF9,Flat")
    version = built(made_rows(cloud(1_500, 6)), encoder, tmp_path, metric="l2", target=target)
    vectors = version.embeddings.at(np.arange(1_500))  # the held-out rows come last
    header = version.manifest
    tried = {trial.search: trial.recall for trial in header.tuning.trials}
    recall = independent_recall(vectors[:-150], vectors[-150:], 9)
    assert tried["nprobe=1"] == pytest.approx(recall, abs=1e-12)
    assert recall < 1
    assert header.evidence.queries == 150


def test_a_thousand_queries_are_drawn_evenly_from_many_held_out_rows(encoder: Path, tmp_path: Path) -> None:
    """10,010 rows, of which 1,001 are held out; in the flat index these rows come last."""
    version = built(made_rows(cloud(10_010, 6)), encoder, tmp_path, target=FLAT)
    assert version.manifest.evidence.queries == 1_000
    assert version.manifest.tuning.chosen.items == 9_009
    assert version.manifest.items == len(version.index) == 10_010


def test_rows_of_every_part_are_held_out(encoder: Path, tmp_path: Path) -> None:
    version = built(made_rows(cloud(1_000, 6), batch=90), encoder, tmp_path)
    indexed, held = ([version.items.payload_at(i)["number"] for i in part] for part in (range(900), range(900, 1_000)))
    assert indexed == sorted(indexed)
    assert np.histogram(held, bins=5, range=(0, 1_000))[0].min() > 0


def test_the_manifest_describes_the_rows_of_the_version(encoder: Path, tmp_path: Path) -> None:
    inputs = cloud(40, 6)
    target = Target(0.5, memory=100_000, key="HNSW8")
    header = built(made_rows(inputs, batch=7), encoder, tmp_path, metric="ip", target=target).manifest
    digest = hashlib.sha256(inputs.tobytes()).hexdigest()
    assert header.data.model_dump() == {"name": "made", "rows": 40, "shape": [6], "sha256": digest}
    assert (header.format, header.version, header.items) == ("lookalike-version/5", 1, 40)
    assert (header.index.key, header.index.metric) == ("HNSW8", "ip")
    assert header.index.search.startswith("efSearch=")
    assert header.encoder == hashlib.sha256((encoder / "manifest.json").read_bytes()).hexdigest()


def test_the_manifest_contains_the_target_and_the_trials(encoder: Path, tmp_path: Path) -> None:
    version = built(made_rows(cloud(1_200, 6)), encoder, tmp_path, target=Target(0.9, memory=60_000))
    tuning, index = version.manifest.tuning, version.manifest.index
    assert tuning.target.model_dump() == {"recall": 0.9, "memory": 60_000, "latency_us": None, "key": None}
    assert (tuning.chosen.key, tuning.chosen.search) == (index.key, index.search)
    assert tuning.chosen.low >= 0.9
    assert tuning.chosen.bytes <= 60_000
    assert {"Flat", index.key} <= {trial.key for trial in tuning.trials} | set(tuning.skipped)
    assert any(trial.front for trial in tuning.trials)
    assert "fastest of" in tuning.reason
    assert version.manifest.evidence.recall == tuning.chosen.recall


@pytest.mark.parametrize(
    ("target", "error", "told"),
    [
        (Target(memory=1_000), TargetError, "--memory"),
        (Target(latency_us=1e-3, key="Flat"), TargetError, "--latency-us"),
        (Target(key="Flut"), ConfigError, "index_factory"),
        (Target(key="IVF300,Flat"), ConfigError, "enough vectors to train"),
    ],
    ids=["bytes", "time", "no index", "too few rows"],
)
def test_a_target_that_cannot_be_met_adds_no_version(
    encoder: Path, tmp_path: Path, target: Target, error: type[LookalikeError], told: str
) -> None:
    store = Store(tmp_path)
    with pytest.raises(error, match=told):
        build(made_rows(cloud(300, 6)), encoder, store, target=target, device="cpu")
    assert (store.numbers(), list(store.versions.iterdir())) == ([], [])
    assert build(made_rows(cloud(300, 6)), encoder, store, target=FLAT, device="cpu") == 1


def test_the_memory_limit_applies_to_the_whole_index(encoder: Path, tmp_path: Path) -> None:
    """In a flat index of 500 rows of 24 bytes, 450 rows fit into 11,000 bytes, and 500 do not."""
    with pytest.raises(TargetError, match="--memory"):
        built(made_rows(cloud(500, 6)), encoder, tmp_path, target=Target(memory=11_000, key="Flat"))


def test_the_canary_query_is_the_first_row(encoder: Path, tmp_path: Path) -> None:
    inputs = np.diag(np.arange(1, 7)).astype(np.float32)
    version = built(made_rows(inputs, batch=2), encoder, tmp_path, metric="l2")
    assert np.array_equal(version.canary, inputs[:1])
    assert version.manifest.canary.ids == ["row-0", "row-1", "row-2"]
    np.testing.assert_allclose(version.manifest.canary.scores, [0, 5**0.5, 10**0.5], rtol=1e-6)


@pytest.mark.parametrize("key", ["Flat", "HNSW8", "IVF2,SQ8", None])
def test_rows_that_are_all_the_same_make_a_version_that_can_be_promoted(
    encoder: Path, tmp_path: Path, key: str | None
) -> None:
    version = built(made_rows(np.ones((100, 6), np.float32)), encoder, tmp_path, target=Target(key=key))
    assert version.manifest.evidence.recall == 1.0
    assert Store(tmp_path).promote(1).version == 1


@pytest.mark.parametrize("key", ["Flat", "SQ8"])
def test_the_same_build_twice_gives_the_same_files(encoder: Path, tmp_path: Path, key: str) -> None:
    """The index is flat, because the fastest search parameters differ between runs."""
    rows = made_rows(cloud(200, 6), batch=64)
    first, second = (built(rows, encoder, tmp_path, target=Target(0.5, key=key)) for _ in range(2))
    assert (first.number, second.number) == (1, 2)
    assert first.sealed.files == second.sealed.files


def test_the_trained_encoder_embeds_the_digits_it_indexes(tiny_store: Store) -> None:
    version = tiny_store.open_champion()
    rows, labels = read_sample(open_rows("digits"), 2_000, seed=0)
    names = [name for chunk in open_rows("digits").chunks() for name in chunk.ids]
    places = np.array([version.items.position(name) for name in names])
    np.testing.assert_allclose(version.embeddings.at(places), version.embed(rows), atol=1e-6)
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
    before = files_of_versions(store)
    with pytest.raises(DataError, match=told):
        build(rows, encoder, store, device="cpu")
    assert files_of_versions(store) == before
    assert list(tmp_path.glob("building/*")) == []
    assert build(made_rows(cloud(20, 6)), encoder, store, device="cpu") == earlier + 1


def test_a_damaged_encoder_builds_nothing(encoder: Path, tmp_path: Path) -> None:
    damaged = encoder_at(tmp_path / "encoder", cloud(6, 3))
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"weights\.safetensors"):
        build(made_rows(cloud(20, 6)), damaged, Store(tmp_path / "store"), device="cpu")
    assert not (tmp_path / "store").exists()


def test_accepts_the_folder_of_a_run_or_of_an_encoder(tiny_run: Path, tmp_path: Path) -> None:
    assert encoder_folder(tiny_run) == encoder_folder(tiny_run / "encoder") == tiny_run / "encoder"
    with pytest.raises(ArtifactError, match="lookalike train"):
        encoder_folder(tmp_path / "none")


def test_processes_that_build_and_promote_at_once_take_turns(encoder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", cloud(30, 6))
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "rows.npy"), str(encoder), str(tmp_path / "store")]
    here = ROOT
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
