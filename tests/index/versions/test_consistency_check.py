import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.versions.build import build
from lookalike.index.versions.consistency_check import Consistency, check_consistency
from lookalike.index.versions.searching import Base
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.errors import ArtifactError
from tests.factories import cloud, encoder_at, made_rows


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_an_index_is_consistent_only_with_its_encoder(tmp_path: Path, metric: Metric) -> None:
    store, rows = Store(tmp_path / "store"), cloud(800, 12)
    number = build(made_rows(rows), encoder_at(tmp_path / "own", cloud(12, 4)), store, metric=metric, device="cpu")
    version = store.open(number)
    assert check_consistency(version).holds
    other = load_encoder(encoder_at(tmp_path / "other", cloud(12, 4, seed=1)))
    found = check_consistency(dataclasses.replace(version, encoder=other))
    assert found.embedded == 0
    assert not found.holds


def test_an_index_of_other_embeddings_does_not_find_the_rows(tmp_path: Path) -> None:
    store, rows = Store(tmp_path / "store"), cloud(800, 12)
    target = Target(key="Flat")
    one, two = (
        store.open(build(made_rows(rows), encoder_at(tmp_path / name, cloud(12, 4, seed)), store, target=target))
        for name, seed in (("one", 0), ("two", 1))
    )
    found = check_consistency(
        dataclasses.replace(one, base=Base(two.index, one.embeddings, one.items, one.base.local_scale))
    )
    assert found.embedded == 1
    assert found.found < 0.1
    assert not found.holds


def test_a_nan_embedding_is_inconsistent(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    version = store.open(build(made_rows(cloud(300, 12)), encoder_at(tmp_path / "own", cloud(12, 4)), store))
    broken = load_encoder(encoder_at(tmp_path / "other", cloud(12, 4) * np.float32(1e38)))
    assert not check_consistency(dataclasses.replace(version, encoder=broken)).holds


def test_equal_rows_count_as_found(tmp_path: Path) -> None:
    rows = np.repeat(cloud(20, 12), 40, axis=0)
    store = Store(tmp_path / "store")
    version = store.open(build(made_rows(rows), encoder_at(tmp_path / "own", cloud(12, 4)), store))
    assert check_consistency(version).holds


def test_requires_all_rows_stored_and_half_of_them_found(tiny_store: Store) -> None:
    assert check_consistency(tiny_store.open(1)).rows > 100
    assert Consistency(3, 1.0, 0.5).holds
    assert not Consistency(3, 0.99, 1.0).holds
    assert not Consistency(3, 1.0, 0.49).holds


def test_checks_the_canary_query_of_a_version_without_held_out_rows(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    version = store.open(build(made_rows(cloud(1, 12)), encoder_at(tmp_path / "own", cloud(12, 4)), store))
    assert not len(version.held)
    assert check_consistency(version) == Consistency(1, 1.0, 1.0)
    other = load_encoder(encoder_at(tmp_path / "other", cloud(12, 4, seed=1)))
    assert not check_consistency(dataclasses.replace(version, encoder=other)).holds


def test_a_folder_with_another_encoder_is_refused_when_it_is_opened(store_copy: Store, tmp_path: Path) -> None:
    folder = store_copy.path(1) / "encoder"
    shutil.rmtree(folder)
    shutil.copytree(encoder_at(tmp_path / "other", cloud(64, 8)), folder)
    with pytest.raises(ArtifactError, match="encoder"):
        store_copy.open(1)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_rows_of_huge_values_let_no_other_encoder_pass(tmp_path: Path, metric: Metric) -> None:
    store, rows = Store(tmp_path / "store"), cloud(800, 12)
    rows[::25] = 1e12  # a tenth of the rows is held out, among them some of these
    own = encoder_at(tmp_path / "own", cloud(12, 4))
    version = store.open(build(made_rows(rows), own, store, metric=metric, target=Target(key="Flat"), device="cpu"))
    assert 0 < (np.array(version.held)[:, 0] == np.float32(1e12)).sum() < 10
    assert check_consistency(version).holds
    other = load_encoder(encoder_at(tmp_path / "other", cloud(12, 4, seed=1)))
    found = check_consistency(dataclasses.replace(version, encoder=other))
    assert found.embedded == 0
