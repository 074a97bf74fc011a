import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import load_config
from lookalike.training.evaluation.judge import (
    NoiseTest,
    add_noise,
    label_precision,
    move,
    score_descriptor,
    score_encoder,
    score_pca,
    score_raw,
)
from lookalike.training.evaluation.untrained import untrained
from lookalike.training.fit.job import train
from lookalike.training.models.descriptors import Gradients
from lookalike.training.rows import open_rows
from lookalike.training.tables.columns import Column

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = DIGITS.astype(np.float32)
DIGIT_LABELS = LABELS.tolist()


def array(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def noise_test_of(labels: bool = True) -> NoiseTest:
    split = [DIGIT_LABELS, [None] * len(DIGIT_LABELS)][not labels]
    return NoiseTest(DIGITS[:300], DIGITS[300:400], DIGITS[300:400] + 1, split[:300], split[300:400])


def halving(folder: Path, width: int) -> Encoder:
    """Halves every value and doubles it again, but drops the last column."""
    folder.mkdir()
    keep = torch.eye(width)[:-1]  # (width - 1, width)
    encoder, decoder = nn.Linear(width, width - 1, bias=False), nn.Linear(width - 1, width, bias=False)
    encoder.weight, decoder.weight = nn.Parameter(keep / 2), nn.Parameter(2 * keep.T.contiguous())
    for layer in (encoder, decoder):
        layer.bias = nn.Parameter(torch.zeros(layer.out_features))
    write_encoder(
        folder,
        nn.Sequential(encoder),
        nn.Sequential(decoder),
        preprocess=fit_preprocessor(np.zeros((1, width), np.float32), "none"),
        header={"input_shape": [width], "latent_dim": width - 1, "output": "values"},
    )
    return load_encoder(folder)


def test_precision_is_the_share_of_nearest_items_with_the_querys_label() -> None:
    # By angle, (1, 0) is nearest to the first two items, and (0, 1) to the last two.
    items, labels = array([9, 0], [5, 1], [1, 5], [0, 9]), ["a", "b", "b", "b"]
    assert label_precision(items, labels, array([1, 0], [0, 1]), ["a", "b"], k=2) == (1 / 2 + 2 / 2) / 2


def test_near_means_a_small_angle_not_a_small_distance() -> None:
    items = array([100, 0], [0, 1])
    assert label_precision(items, ["far", "near"], array([1, 0.1]), ["far"], k=1) == 1.0


def test_precision_with_fewer_items_than_k_counts_all_items() -> None:
    assert label_precision(array([1, 0], [0, 1]), [0, 1], array([1, 1]), [1], k=10) == 0.5


def test_judging_does_not_change_rows() -> None:
    items, queries = array([3, 4]), array([6, 8])
    label_precision(items, [0], queries, [0])
    assert (items.tolist(), queries.tolist()) == ([[3, 4]], [[6, 8]])


@pytest.mark.parametrize(("items", "queries"), [([None, 1], [1]), ([0, 1], [None])])
def test_without_labels_there_is_no_precision(items: list[int | None], queries: list[int | None]) -> None:
    assert label_precision(array([1, 0], [0, 1]), items, array([1, 0]), queries) is None


def test_precision_matches_scikit_learn() -> None:
    noise_test = noise_test_of()
    neighbors = KNeighborsClassifier(10, metric="cosine", algorithm="brute").fit(
        noise_test.items, noise_test.item_labels
    )
    shares = neighbors.predict_proba(noise_test.queries)[np.arange(100), noise_test.query_labels]
    found = label_precision(noise_test.items, noise_test.item_labels, noise_test.queries, noise_test.query_labels)
    assert found == pytest.approx(shares.mean(), abs=0.002)  # equal angles may be ranked tenth or eleventh


def test_noise_has_the_configured_level_in_units_of_the_range_and_stays_in_it() -> None:
    rows = np.tile(array([0, 50], [100, 50]), (2_000, 1))
    noisy = add_noise(rows, fit_preprocessor(rows, "column-range"), level=0.3)
    assert noisy[:, 0].min() == 0
    assert noisy[:, 0].max() == 100
    # Half of the noise at each end is clipped; the rest is half a normal of deviation 30: mean 30 / sqrt(2 pi).
    assert np.abs(noisy - rows)[:, 0].mean() == pytest.approx(30 / np.sqrt(2 * np.pi), rel=0.03)
    assert (noisy[:, 1] == 50).all()  # a constant column has no range and no noise


def test_noise_depends_on_the_seed() -> None:
    scaling = fit_preprocessor(DIGITS, "center")
    one, two, other = (add_noise(DIGITS[:5], scaling, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_an_encoders_error_is_what_it_loses(tmp_path: Path) -> None:
    # Only the last pixel is lost: its square, over 64 columns.
    noise_test = noise_test_of()
    judged = score_encoder("halving", halving(tmp_path / "e", 64), noise_test)
    assert judged.reconstruction == pytest.approx(float(np.square(noise_test.queries[:, -1]).mean() / 64))
    assert (judged.name, judged.bytes_per_item) == ("halving", 4 * 63)
    without_last = [DIGITS[:300, :-1].copy(), DIGITS[300:400, :-1].copy()]
    expected = label_precision(without_last[0], noise_test.item_labels, without_last[1], noise_test.query_labels)
    assert judged.precision == expected


def test_pca_loses_the_components_that_it_leaves_out() -> None:
    # Eckart and Young 1936: the mean square error is the sum of the squared singular values left out.
    rows = DIGITS[:300]
    noise_test = NoiseTest(rows, rows, rows, [None] * 300, [None] * 300)
    singular = np.linalg.svd(rows - rows.mean(axis=0, dtype=np.float64), compute_uv=False)
    judged = score_pca(5, fit_preprocessor(rows, "none"), noise_test, rows)
    assert judged.reconstruction == pytest.approx(float((singular[5:] ** 2).sum() / rows.size), rel=1e-4)
    assert (judged.name, judged.bytes_per_item, judged.precision) == ("PCA-5", 20, None)


def test_pca_has_no_more_components_than_rows() -> None:
    assert score_pca(32, fit_preprocessor(DIGITS, "center"), noise_test_of(), DIGITS[:7]).name == "PCA-7"


def test_raw_rows_lose_nothing_and_are_judged_clean_and_noisy() -> None:
    noise_test = noise_test_of()
    judged = score_raw(noise_test)
    assert (judged.reconstruction, judged.bytes_per_item) == (0, 256)
    for found, queries in ((judged.precision, noise_test.queries), (judged.noisy_precision, noise_test.noisy)):
        assert found == label_precision(noise_test.items, noise_test.item_labels, queries, noise_test.query_labels)
    assert score_raw(noise_test_of(labels=False)).precision is None


COLUMNS = (Column("n"), Column("c", "categorical", ("x", "y", "z")), Column("m"))
TABLE = np.array([[1, 0, np.nan], [3, 1, 4], [5, np.nan, 6], [3, 2, 8]] * 5, np.float32)


def test_noise_does_not_change_a_tables_categories_and_gaps() -> None:
    noisy = add_noise(TABLE, fit_preprocessor(TABLE, "standard", COLUMNS))
    np.testing.assert_array_equal(noisy[:, 1], TABLE[:, 1])
    np.testing.assert_array_equal(np.isnan(noisy), np.isnan(TABLE))
    assert (noisy[:, 0] != TABLE[:, 0]).any()
    assert noisy[:, 0].min() >= 1
    assert noisy[:, 0].max() <= 5
    assert noisy.dtype == np.float32


def table_noise_test() -> NoiseTest:
    labels = [0, 1, 2, 3] * 5
    return NoiseTest(TABLE, TABLE, TABLE, labels, labels)


def test_a_tables_rows_are_judged_as_features() -> None:
    scaling = fit_preprocessor(TABLE, "standard", COLUMNS)
    judged = score_raw(table_noise_test(), scaling)
    assert (judged.name, judged.reconstruction, judged.bytes_per_item) == ("preprocessed rows", 0, 4 * scaling.features)
    assert judged.precision == 0.5  # five of the ten nearest have the row's label


def test_pca_of_a_table_loses_nothing_with_enough_components() -> None:
    scaling = fit_preprocessor(TABLE, "standard", COLUMNS)
    judged = score_pca(3, scaling, table_noise_test(), TABLE)
    assert judged.name == "PCA-3"
    assert judged.reconstruction == pytest.approx(0, abs=1e-9)


def test_the_error_of_mixed_columns_is_relative_to_a_constant_output(tmp_path: Path) -> None:
    # Features n m | n missing? m missing? | x y z missing.
    # A decoder of zeros outputs n = 3, m = 6, neither missing, and x.
    scaling = fit_preprocessor(TABLE, "standard", COLUMNS)
    encoder, decoder = nn.Linear(8, 1), nn.Linear(1, 8)
    for part in (*encoder.parameters(), *decoder.parameters()):
        nn.init.zeros_(part)
    header = {"input_shape": [3], "latent_dim": 1, "output": "values"}
    write_encoder(tmp_path, nn.Sequential(encoder), nn.Sequential(decoder), preprocess=scaling, header=header)
    judged = score_encoder("constant", load_encoder(tmp_path), table_noise_test())
    # Variances: n 1, its indicator 0, m 3/4 (a quarter is at the mean), its indicator 3/16, four categories of a
    # quarter 3/16 each.
    # Errors: n and m as the variances, the indicator 1/4; x is wrong in 3/4 of the rows, each other in a quarter.
    variance, error = 1 + 3 / 4 + 5 * 3 / 16, 1 + 3 / 4 + 1 / 4 + 3 / 4 + 3 / 4
    assert judged.reconstruction == pytest.approx(error / variance, rel=1e-5)


def test_moved_pictures_are_the_eight_neighbors_with_background_at_the_edge() -> None:
    rows = DIGITS[:200]
    scaling = fit_preprocessor(DIGITS, "center")
    moved = move(rows, scaling, (8, 8)).reshape(-1, 8, 8)
    sides = set()
    for before, after in zip(rows.reshape(-1, 8, 8), moved, strict=True):
        padded = np.pad(before, 1)
        (same,) = [
            (down - 1, right - 1)
            for down in range(3)
            for right in range(3)
            if np.allclose(padded[down : down + 8, right : right + 8], after, atol=1e-3)
        ]
        sides.add(same)
    assert sides == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)} - {(0, 0)}


def test_a_moved_photo_repeats_its_edge() -> None:
    rows = np.random.default_rng(0).uniform(50, 200, (20, 4 * 6 * 3)).astype(np.float32)
    moved = move(rows, fit_preprocessor(rows, "center"), (4, 6, 3), pixels=2)
    assert moved.shape == rows.shape
    assert set(np.round(moved[0], 2)) <= set(np.round(rows[0], 2))


def test_the_descriptor_is_scored_without_training_if_the_encoder_reads_one(tmp_path: Path) -> None:
    run = train(open_rows("digits"), load_config(None, ["fit.epochs=1", "fit.device=cpu"]), tmp_path / "run")
    judged = score_descriptor(run.encoder, noise_test_of(), DIGITS[300:])
    assert judged is not None
    assert (judged.name, judged.bytes_per_item) == ("gradients, PCA-16", 64)
    described = Gradients(8, 8, 1, 2)(torch.from_numpy(DIGITS) * run.encoder.preprocess.factor).numpy()
    pca = PCA(16).fit(described[300:])
    embedded = [np.ascontiguousarray(pca.transform(part), np.float32) for part in (described[:300], described[300:400])]
    expected = label_precision(embedded[0], DIGIT_LABELS[:300], embedded[1], DIGIT_LABELS[300:400])
    assert expected is not None
    assert judged.precision == pytest.approx(expected, abs=0.01)
    assert math.isnan(judged.reconstruction)
    pixels = untrained(run.encoder)
    assert torch.equal(pixels.encoder.get_buffer("0.offset"), run.encoder.encoder.get_buffer("0.offset"))


def test_an_encoder_without_a_descriptor_has_no_such_score(encoder: Encoder) -> None:
    assert score_descriptor(encoder, noise_test_of(), DIGITS) is None
