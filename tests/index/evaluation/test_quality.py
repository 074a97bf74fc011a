import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from lookalike.index.ann.spec import Metric
from lookalike.index.evaluation.quality import (
    MOST_ROWS,
    KeptShare,
    features_of,
    mean_share,
    neighbors_kept,
    recovery,
    recovery_share,
    rows_to_embedding,
    swapped,
)
from lookalike.index.versions.embed import embed
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample
from tests.factories import cloud, encoder_at
from tests.mixed import QUICK, mixed, write_csv

WIDE = cloud(200, 20)
LONG = cloud(200, 3) * np.array([10, 0.1, 0.1], np.float32)
"""Rows with nearly all variance along the first axis."""


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, None]


def linear(folder: Path, matrix: NDArray[np.float32]) -> Encoder:
    return load_encoder(encoder_at(folder / "encoder", matrix))


def axes(width: int, *kept: int) -> NDArray[np.float32]:
    """The projection to the given axes, (width, kept)."""
    return np.eye(width, dtype=np.float32)[:, kept]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, NDArray[np.float32]]:
    """An encoder of mixed columns, and rows of codes and gaps that it has not seen."""
    folder = tmp_path_factory.mktemp("quality")
    encoder = train(open_rows(str(write_csv(folder / "a.csv", mixed()))), load_config(None, list(QUICK)), folder / "r")
    shutil.rmtree(folder / "r")
    rows = open_rows(str(write_csv(folder / "b.csv", mixed(90, seed=1)))).suited(encoder.encoder.inputs)
    return encoder.encoder, read_sample(rows, rows.count, seed=0)[0]


@pytest.mark.parametrize(
    ("features", "embeddings", "kept"),
    [
        # Nearest neighbors: 0 -> 1, 1 -> 0, 2 -> 1; by embedding: 0 -> 1, 1 -> 2, 2 -> 1.
        (column(0, 1, 3), column(0, 2.2, 3), 2 / 3),
        (column(0, 1, 3) + 500, column(0, 2.2, 3) - 500, 2 / 3),
        # By embedding, rows 1 and 2 are equally far from row 0: each counts as half. Row 2 finds row 0, not row 1.
        (column(0, 1, 3), column(0, 1, -1), (1 / 2 + 1 + 0) / 3),
        # By row, rows 1 and 2 are equally far from row 0: both are correct.
        (column(0, 1, -1), column(0, 1, 3), (1 + 1 + 0) / 3),
        (column(0, 0, 1, 1), column(1, 1, 0, 0), 1.0),
        (column(0, 0, 1, 1), column(0, 1, 0, 1), 0.0),
    ],
)
def test_neighbours_kept(features: NDArray[np.float32], embeddings: NDArray[np.float32], kept: float) -> None:
    assert neighbors_kept(features, embeddings, "l2", k=1) == pytest.approx(kept)


def test_the_longest_row_is_nearest_by_inner_product() -> None:
    # By the product, all rows find row 3, and row 3 finds row 2; by row: 0 -> 1, 1 -> 0, 2 -> 1, 3 -> 2.
    line = column(1, 2, 3.5, 9)
    assert neighbors_kept(line, line, "ip", k=1) == pytest.approx(1 / 4)


@pytest.mark.parametrize("noise", [0.0, 0.5, 5.0])
def test_neighbours_kept_agrees_with_scikit_learn(noise: float) -> None:
    embeddings = WIDE + noise * cloud(200, 20, seed=1)
    near, far = (
        NearestNeighbors(n_neighbors=10).fit(rows).kneighbors(return_distance=False) for rows in (WIDE, embeddings)
    )
    common = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, far, strict=True)])
    assert neighbors_kept(WIDE, embeddings, "l2") == pytest.approx(float(common), abs=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_a_constant_embedding_has_the_result_of_chance(metric: Metric) -> None:
    assert neighbors_kept(WIDE, np.ones((200, 4), np.float32), metric) == pytest.approx(10 / 199)


def test_any_of_several_equal_rows_is_correct() -> None:
    rows = np.repeat(cloud(3, 4), 30, axis=0)
    assert neighbors_kept(rows, rows[:, ::-1].copy(), "l2") == 1.0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_rows_are_all_neighbors_of_each_other(count: int, tmp_path: Path) -> None:
    encoder = linear(tmp_path, axes(4, 0))
    assert neighbors_kept(cloud(count, 4), cloud(count, 2, seed=1)) == 1.0
    assert not rows_to_embedding(encoder, cloud(count, 4), "l2", ["a", "b", "a", "b", "a"][:count]).retrain
    assert mean_share(recovery(encoder, cloud(count, 4), "l2")) == 1.0


def test_the_identity_and_full_pca_keep_all_neighbors(tmp_path: Path) -> None:
    found = rows_to_embedding(linear(tmp_path, np.eye(20, dtype=np.float32)), WIDE, "l2")
    assert found.neighbours.encoder == 1.0
    assert found.neighbours.pca == pytest.approx(1.0, abs=1e-3)
    assert found.neighbours.chance == pytest.approx(10 / 99)  # neighbors are searched within each half
    assert (found.labels, found.retrain) == (None, False)


@pytest.mark.parametrize(("axis", "retrain"), [(0, False), (1, True)])
def test_an_important_axis_is_kept_and_a_minor_one_needs_retraining(tmp_path: Path, axis: int, retrain: bool) -> None:
    found = rows_to_embedding(linear(tmp_path, axes(3, axis)), LONG, "l2")
    assert found.retrain == retrain
    assert found.neighbours.pca > 0.8
    if retrain:
        assert found.neighbours.encoder == pytest.approx(found.neighbours.chance, abs=0.03)
    else:
        assert found.neighbours.encoder == pytest.approx(found.neighbours.pca, abs=0.03)


def test_a_collapsed_encoder_needs_retraining(tmp_path: Path) -> None:
    found = rows_to_embedding(linear(tmp_path, np.zeros((3, 2), np.float32)), LONG, "cosine")
    assert found.neighbours.encoder == found.neighbours.chance
    assert found.retrain


def test_labels_decide_if_there_are_any(tmp_path: Path) -> None:
    """The class is along a minor axis, which one principal component ignores and this encoder keeps."""
    rows, kinds = LONG.copy(), np.arange(200) % 2
    rows[:, 1] = kinds
    labels = [["a", "b"][kind] for kind in kinds]
    good, bad = linear(tmp_path / "good", axes(3, 1)), linear(tmp_path / "bad", axes(3, 2))
    result = rows_to_embedding(good, rows, "l2", labels).labels
    assert result is not None
    assert result.encoder == 1.0
    assert result.pca == pytest.approx(0.5, abs=0.1)
    assert not rows_to_embedding(good, rows, "l2", labels).retrain
    assert rows_to_embedding(good, rows, "l2").retrain
    assert rows_to_embedding(good, rows, "l2", ["a"] * 200).retrain  # a single class is no evidence
    assert rows_to_embedding(good, rows, "l2", [*labels[:29], *[None] * 171]).labels is None  # too few labels
    some = rows_to_embedding(bad, rows, "l2", [*labels[:120], *[None] * 80])
    assert some.labels is not None
    assert some.labels.chance == pytest.approx(0.5, abs=0.02)


def test_an_insignificant_difference_needs_no_retraining() -> None:
    assert KeptShare(encoder=0.5, pca=0.9, chance=0.1, error=0.01).worse(0.85)
    assert not KeptShare(encoder=0.5, pca=0.9, chance=0.1, error=0.01).worse(0.5)  # exactly half of what PCA keeps
    assert not KeptShare(encoder=0.5, pca=0.9, chance=0.1, error=0.21).worse(0.85)
    assert not KeptShare(encoder=1.0, pca=1.0, chance=1.0, error=0.0).worse(0.85)


def test_pca_is_not_overrated_on_few_rows(tmp_path: Path) -> None:
    """Twenty components fitted on the same forty random rows would keep nearly all neighbors."""
    found = rows_to_embedding(linear(tmp_path, axes(60, *range(20))), cloud(40, 60), "l2")
    assert found.neighbours.pca < 0.85
    assert not found.retrain


def test_recovery_of_the_identity_and_of_a_constant(tmp_path: Path) -> None:
    identity, constant = np.eye(100, dtype=np.float32), np.zeros((20, 2), np.float32)
    found = recovery(linear(tmp_path / "i", identity), cloud(200, 100), "l2", severities=[0.1, 0.2])
    assert found == [(0.1, 1.0), (0.2, 1.0)]
    for _, share in recovery(linear(tmp_path / "c", constant), WIDE, "cosine"):
        assert share == pytest.approx(10 / 200)


def test_recovery_falls_with_severity_and_with_worse_encoders(tmp_path: Path) -> None:
    curves = []
    for count in (20, 8, 2):
        encoder = linear(tmp_path / str(count), cloud(20, count))
        curves.append([share for _, share in recovery(encoder, WIDE, "l2", k=3)])
    assert all(np.diff(curve).max() <= 0 for curve in curves)
    means = [np.mean(curve) for curve in curves]
    assert means[0] > means[1] > means[2] > 3 / 200


def test_found_again(tmp_path: Path) -> None:
    encoder = linear(tmp_path, np.eye(1, dtype=np.float32))
    clean, damaged = column(0, 10, 20), column(1, 16, 15)  # 16 is nearer to 20; 15 is as near to 10 as to 20
    assert recovery_share(encoder, clean, damaged, "l2", k=1) == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert recovery_share(encoder, clean, damaged, "l2", k=2) == 1.0
    assert recovery_share(encoder, clean, damaged, "l2", gallery=column(1, 99), k=1) == pytest.approx(
        (0 + 0 + 1 / 2) / 3
    )
    assert recovery_share(encoder, clean[:0], damaged[:0], "l2") == 1.0


def test_a_gallery_lowers_recovery(tmp_path: Path) -> None:
    encoder = linear(tmp_path, axes(20, *range(8)))
    alone = recovery(encoder, WIDE, "cosine")
    among = recovery(encoder, WIDE, "cosine", gallery=embed(encoder, cloud(2_000, 20, seed=1), "cosine"))
    assert all(less <= more for (_, less), (_, more) in zip(among, alone, strict=True))
    assert mean_share(among) < mean_share(alone)


def test_equal_rows_count_as_one(tmp_path: Path) -> None:
    encoder = linear(tmp_path, axes(20, *range(4)))
    assert recovery(encoder, np.repeat(WIDE, 12, axis=0)[:1_200], "l2") == recovery(encoder, WIDE[:100], "l2")
    assert mean_share(recovery(encoder, np.repeat(WIDE[:1], 30, axis=0), "l2")) == 1.0


def test_the_seed_determines_damage_and_halves(tmp_path: Path) -> None:
    encoder = linear(tmp_path, axes(20, *range(4)))
    first, same, other = (recovery(encoder, WIDE, "l2", seed=seed) for seed in (0, 0, 1))
    assert first == same != other
    one, again, another = (rows_to_embedding(encoder, WIDE, "l2", seed=seed) for seed in (0, 0, 1))
    assert one == again != another


def test_samples_many_rows(tmp_path: Path) -> None:
    encoder, rows = linear(tmp_path, np.zeros((2, 2), np.float32)), cloud(MOST_ROWS + 500, 2)
    assert mean_share(recovery(encoder, rows, "l2", severities=[0.5])) == pytest.approx(10 / MOST_ROWS)
    chance = rows_to_embedding(encoder, rows, "l2").neighbours.chance
    assert chance == pytest.approx(10 / (MOST_ROWS / 2 - 1), rel=0.01)


def test_swapped_values_come_from_other_rows_of_the_same_column() -> None:
    rows = np.arange(600, dtype=np.float32).reshape(100, 6)
    assert (swapped(rows, 0.0) == rows).all()
    assert (swapped(rows, 1.0) != rows).all()
    assert (swapped(rows, 1.0) % 6 == np.arange(6)).all()
    some, more = swapped(rows, 0.3), swapped(rows, 0.5)
    assert (some != rows).mean() == pytest.approx(0.3, abs=0.06)
    assert (more[some != rows] == some[some != rows]).all()  # a higher severity keeps earlier damage
    assert (swapped(rows[:1], 1.0) == rows[:1]).all()


def test_values_outside_the_limits_are_not_copied() -> None:
    rows = cloud(60, 5)
    expected = swapped(rows, 0.5)
    rows[7, 3] = 3e38
    damaged = swapped(rows, 0.5, limits=(np.full(5, -10, np.float32), np.full(5, 10, np.float32)))
    assert (swapped(rows, 0.5)[:, 3] == np.float32(3e38)).sum() > 0
    others = np.delete(damaged, 7, axis=0)
    assert (np.abs(others) < 10).all()
    assert (others == np.delete(expected, 7, axis=0)).mean() > 0.99


def test_measures_tables_with_categories_and_gaps(table: tuple[Encoder, NDArray[np.float32]]) -> None:
    encoder, rows = table
    assert np.isnan(rows).any()
    assert np.isfinite(features_of(encoder, rows)).all()
    assert (np.isnan(swapped(rows, 0.5)).any(axis=0) == np.isnan(rows).any(axis=0)).all()
    found = rows_to_embedding(encoder, rows, "cosine").neighbours
    assert found.chance < found.encoder <= 1.0
    curve = recovery(encoder, rows, "cosine", severities=[0.0, 0.2, 0.9])
    assert curve[0][1] == 1.0
    assert curve[0][1] > curve[1][1] > curve[2][1]
    assert curve == recovery(encoder, rows, "cosine", severities=[0.0, 0.2, 0.9])


@pytest.mark.parametrize("value", [50.0, -1e9, 3e38])
@pytest.mark.parametrize("entire_row", [False, True])
def test_an_outlier_hardly_changes_the_kept_shares(tmp_path: Path, value: float, entire_row: bool) -> None:
    """An outlier may take one of eight components in one half, and has one row's share of the mean."""
    rows, encoder = WIDE * np.linspace(2, 0.2, 20, dtype=np.float32), linear(tmp_path, np.eye(20, 8, dtype=np.float32))
    clean = rows_to_embedding(encoder, rows, "l2").neighbours
    rows[17, None if entire_row else 19] = value
    spoiled = rows_to_embedding(encoder, rows, "l2").neighbours
    assert spoiled.encoder == pytest.approx(clean.encoder, abs=1 / 200 + 1e-9)
    assert spoiled.pca == pytest.approx(clean.pca, abs=0.05)
    assert spoiled.error == pytest.approx(clean.error, rel=0.3)
