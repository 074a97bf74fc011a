"""Hand-worked values, and validity in repeated random draws."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import nn

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.scores import normalize
from lookalike.index.ann.spec import Metric
from lookalike.index.errors import QueryError
from lookalike.index.versions.novelty import (
    NEIGHBORS,
    Novelty,
    encode_with_errors,
    item_distances,
    load_novelty,
    local_distances,
    mean_distances,
)
from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.errors import ArtifactError
from lookalike.training.tables.columns import Column
from tests.factories import cloud, encoder_at

Reals = NDArray[np.float64]


def reconstruction_errors(encoder: Encoder, rows: NDArray[np.float32]) -> Reals:
    errors = encode_with_errors(encoder, rows)[1]
    assert errors is not None
    return errors


def reals(*values: float) -> Reals:
    return np.array(values, np.float64)


def drawn(count: int, rng: np.random.Generator) -> tuple[Reals, Reals]:
    """Correlated errors and distances, in different units."""
    shared = rng.standard_normal(count)
    return np.exp(shared + rng.standard_normal(count)), 100 + shared + 0.5 * rng.standard_normal(count)


FOUR = Novelty.calibrate(reals(1, 2, 3, 4), reals(1, 3, 2, 4))
"""At least as great an error have 4 3 2 1 rows, at least as great a distance 4 2 3 1: e * d^2 is 64 12 18 1."""


@pytest.mark.parametrize(
    ("error", "distance", "p"),
    [
        (5, 5, 1 / 5),  # 1 * 1: no product is less
        (3.5, 5, 2 / 5),  # 2 * 1: one product is less than 2
        (5, 3.5, 2 / 5),  # 1 * 4
        (3, 3, 4 / 5),  # 3 * 9: three are less than 27
        (2.5, 1.5, 4 / 5),  # 3 * 16
        (0, 0, 1),  # 5 * 25
        (math.inf, 0, 4 / 5),  # 1 * 25
        (0, math.inf, 2 / 5),  # 5 * 1
    ],
)
def test_p_values_worked_out_by_hand(error: float, distance: float, p: float) -> None:
    assert FOUR.p_values(reals(error), reals(distance)) == pytest.approx([p])


def test_without_errors_only_the_distance_counts() -> None:
    assert FOUR.p_values(None, reals(0, 1, 2.5, 4, 5)) == pytest.approx([1, 1, 3 / 5, 2 / 5, 1 / 5])


def test_equal_rows_have_the_largest_p_value() -> None:
    same = Novelty.calibrate(np.ones(9), np.ones(9))
    assert same.p_values(reals(1, 2, 1), reals(1, 1, 2)) == pytest.approx([1, 0.1, 0.1])


def test_of_one_calibration_row() -> None:
    one = Novelty.calibrate(reals(2), reals(3))
    assert one.p_values(reals(2, 3, 1), reals(3, 4, 2)).tolist() == [1, 0.5, 1]


def test_without_calibration_rows_nothing_is_unusual() -> None:
    none = Novelty.calibrate(reals(), reals())
    assert none.p_values(reals(1, math.inf), reals(1, math.inf)).tolist() == [1, 1]
    assert none.p_values(None, reals(1)).tolist() == [1]
    assert FOUR.p_values(reals(), reals()).shape == (0,)


@pytest.mark.parametrize("count", [3, 19, 300])
@pytest.mark.parametrize("rounded", [False, True])
def test_the_rate_of_false_alarms_is_bounded(count: int, rounded: bool) -> None:
    """Calibration rows and a query come from one distribution, 4,000 times; if rounded, most values are ties."""
    rng, times = np.random.default_rng(count), 4_000
    p, alone = np.empty(times), np.empty(times)
    for time in range(times):
        values = drawn(count + 1, rng)
        errors, distances = (np.asarray(part.round(), np.float64) for part in values) if rounded else values
        novelty = Novelty.calibrate(errors[1:], distances[1:])
        p[time] = novelty.p_values(errors[:1], distances[:1])[0]
        alone[time] = novelty.p_values(None, distances[:1])[0]
    for level in (0.01, 0.05, 0.10, 0.25, 0.5):
        exact = math.floor(level * (count + 1) + 1e-9) / (count + 1)
        least, most = binom.interval(0.999, times, exact)
        assert (p <= level).sum() <= most
        assert (alone <= level).sum() <= most
        if not rounded:
            assert (alone <= level).sum() >= least


def test_p_is_uniform_for_many_rows() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([Novelty.calibrate(*drawn(2_000, rng)).p_values(*drawn(100, rng)) for _ in range(100)])
    for level in (0.01, 0.05, 0.10, 0.5):
        low, high = binom.interval(0.999, len(p), level)
        assert low <= (p <= level).sum() <= high


@pytest.mark.parametrize(("count", "slack"), [(12, 0.3), (300, 0.03)])
def test_leaving_the_query_out_never_makes_p_smaller(count: int, slack: float) -> None:
    """Compare with the valid p-value, for which the query is counted for every row."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        values: Reals = np.stack(drawn(count + 1, rng)).round(1)  # (2, rows), the first is the query
        at_least = (values[:, None, :] >= values[:, :, None]).sum(axis=2)  # (2, rows)
        products = at_least[0] * at_least[1] ** 2
        exact = (products <= products[0]).mean()
        ours = Novelty.calibrate(*values[:, 1:]).p_values(values[0, :1], values[1, :1])[0]
        assert exact - 1e-12 <= ours <= exact + slack


def test_p_falls_as_either_rises() -> None:
    rng = np.random.default_rng(2)
    novelty = Novelty.calibrate(*drawn(500, rng))
    errors, distances = drawn(2_000, rng)
    p = novelty.p_values(errors, distances)
    assert ((p > 0) & (p <= 1)).all()
    assert (novelty.p_values(errors * 1.3, distances) <= p).all()
    assert (novelty.p_values(errors, distances + 0.4) <= p).all()
    assert (novelty.p_values(None, distances + 0.4) <= novelty.p_values(None, distances)).all()


def test_an_outlier_in_one_quantity_is_found() -> None:
    rng = np.random.default_rng(3)
    novelty = Novelty.calibrate(*drawn(2_000, rng))
    middle = np.median(novelty.rows, axis=0)
    assert novelty.p_values(reals(1e9), middle[1:])[0] < 0.05
    assert novelty.p_values(middle[:1], reals(1e9))[0] < 0.01


@pytest.mark.parametrize(
    ("errors", "distances", "message"),
    [
        (reals(math.nan), reals(1), "errors: expected numbers, found NaN"),
        (reals(1), reals(math.nan), "distances: expected numbers, found NaN"),
        (reals(1, 2), reals(1), r"errors: expected shape \(1,\), found \(2,\)"),
        (reals(1), np.ones((1, 1)), r"distances: expected shape \(n,\)"),
    ],
)
def test_refuses_invalid_measurements(errors: Reals, distances: Reals, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        FOUR.p_values(errors, distances)
    with pytest.raises(QueryError, match=message):
        Novelty.calibrate(errors, distances)


def test_an_infinite_calibration_row_is_refused() -> None:
    with pytest.raises(QueryError, match="finite errors and distances"):
        Novelty.calibrate(reals(math.inf), reals(1))


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_saved_novelty_returns_the_same_p_values(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(4)
    novelty = Novelty.calibrate(*drawn(count, rng))
    novelty.save(tmp_path / "novelty.npy")
    loaded = load_novelty(tmp_path / "novelty.npy")
    errors, distances = drawn(30, rng)
    assert loaded.p_values(errors, distances).tolist() == novelty.p_values(errors, distances).tolist()


def npy(array: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a NumPy array"),
        (b"not an array", "a NumPy array"),
        (npy(np.ones((4, 2)))[:-1], "a NumPy array"),
        (npy(np.array([{}], object)), "a NumPy array"),
        (npy(np.ones((4, 3))), r"float64 of shape \(n, 2\), found float64 \(4, 3\)"),
        (npy(np.ones(4)), r"found float64 \(4,\)"),
        (npy(np.ones((4, 2), np.float32)), r"found float32 \(4, 2\)"),
        (npy(np.array([[1.0, math.nan]])), "finite numbers"),
        (npy(np.array([[1.0, math.inf]])), "finite numbers"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "novelty.npy").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        load_novelty(tmp_path / "novelty.npy")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="a NumPy array"):
        load_novelty(tmp_path / "novelty.npy")


@pytest.mark.parametrize(
    ("metric", "scores", "mean", "local"),
    [
        ("cosine", [1.0, 0.5, -1.0], 1.0, 0.5),  # at unit length, the distances are 0, 1 and 2
        ("l2", [1.0, 2.0, 6.0], 3.0, 1.5),
        ("ip", [5.0, 3.0, 1.0], -3.0, -3.0),
    ],
)
def test_distances_to_neighbors(metric: Metric, scores: list[float], mean: float, local: float) -> None:
    """The neighbors' own distances are 3, 4 and 5: their mean is 4, its root is 2."""
    given, near = np.array([scores], np.float32), np.array([[3, 4, 5]], np.float32)
    assert mean_distances(given, metric) == pytest.approx([mean])
    assert local_distances(given, near, metric) == pytest.approx([local])


def test_a_cosine_above_one_has_the_distance_zero() -> None:
    assert mean_distances(np.array([[1.0000001]], np.float32), "cosine").tolist() == [0]


def test_a_query_near_copies_is_far_from_them() -> None:
    scores, near = np.array([[0, 0], [1, 1]], np.float32), np.zeros((2, 2), np.float32)
    copy, other = local_distances(scores, near, "l2")
    assert copy == 0
    assert other > 1e10
    assert np.isfinite(other)


def test_without_items_the_distance_is_infinite() -> None:
    none = np.empty((2, 0), np.float32)
    assert local_distances(none, none, "l2").tolist() == [math.inf, math.inf]


def local_scale(vectors: NDArray[np.float32], metric: Metric = "l2") -> NDArray[np.float32]:
    return item_distances(Embeddings(vectors, metric), len(vectors))


def test_an_items_distance_is_to_the_others() -> None:
    """Items at 0, 3 and 7: their distances are 3 and 7, 3 and 4, 4 and 7."""
    assert local_scale(np.array([[0], [3], [7]], np.float32)) == pytest.approx([5, 3.5, 5.5])
    assert local_scale(np.array([[9]], np.float32)).tolist() == [1]
    assert local_scale(np.empty((0, 1), np.float32)).shape == (0,)


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_items_in_blocks_are_as_by_brute_force(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.index.versions.novelty._BLOCK_ITEMS", 64)
    vectors = cloud(300, 5)
    vectors = normalize(vectors) if metric == "cosine" else vectors
    gaps = np.linalg.norm(vectors[:, None] - vectors, axis=2) if metric != "ip" else -vectors @ vectors.T
    np.fill_diagonal(gaps, np.inf)
    wanted = np.sort(gaps, axis=1)[:, :NEIGHBORS].mean(axis=1)
    assert local_scale(vectors, metric=metric) == pytest.approx(wanted, abs=1e-4)
    monkeypatch.setattr("lookalike.index.versions.novelty._FEW", 299)
    assert local_scale(vectors, metric) == pytest.approx(wanted, rel=0.05, abs=0.05)


def test_item_distances_use_a_sample_of_many_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.index.versions.novelty._SAMPLE", 100)
    vectors = cloud(300, 3)
    sample = Embeddings(vectors[:250], "l2").sample(100, seed=0)
    gaps = np.linalg.norm(vectors[:, None] - vectors[sample], axis=2)
    gaps[sample, np.arange(100)] = np.inf
    wanted = np.sort(gaps, axis=1)[:, :NEIGHBORS].mean(axis=1)
    assert item_distances(Embeddings(vectors, "l2"), 250) == pytest.approx(wanted, rel=1e-3)


def answering(folder: Path, answer: list[float], columns: tuple[Column, ...] = (), factor: float = 0.0) -> Encoder:
    """An encoder that clips no value; the decoder gives `answer`, for all features, plus `factor` times the first."""
    width = len(columns) or len(answer)
    rows = np.array([[-3e38], [3e38]], np.float32).repeat(width, axis=1)
    encoder, decoder = nn.Linear(len(answer), 1), nn.Linear(1, len(answer))
    encoder.weight.data, encoder.bias.data = torch.eye(len(answer))[:1], torch.zeros(1)
    decoder.weight.data, decoder.bias.data = torch.full((len(answer), 1), factor), torch.tensor(answer)
    folder.mkdir()
    write_encoder(
        folder,
        nn.Sequential(encoder),
        nn.Sequential(decoder),
        preprocess=fit_preprocessor(rows, "none", columns),
        header={"input_shape": [width], "latent_dim": 1, "output": "values"},
    )
    return load_encoder(folder)


def test_the_error_is_the_root_of_the_mean_square(tmp_path: Path) -> None:
    rows = np.array([[2, 10], [1, 3], [3, 3]], np.float32)  # the errors are (1, 7), (0, 0) and (2, 0)
    errors = reconstruction_errors(answering(tmp_path / "encoder", [1.0, 3.0]), rows)
    assert errors == pytest.approx([5, 0, math.sqrt(2)])


def test_a_missing_value_adds_no_error(tmp_path: Path) -> None:
    columns = Column("number"), Column("other"), Column("word", "categorical", ("one", "two"))
    plain = answering(tmp_path / "plain", [5.0, 3.0, -99.0, -99.0], columns[:2])  # with -99, no value is missing
    assert reconstruction_errors(plain, np.array([[math.nan, 17], [math.nan, 3]], np.float32)) == pytest.approx(
        [14 / math.sqrt(2), 0]
    )
    rows = np.array([[0, math.nan, 0], [1, 1, math.nan], [math.nan] * 3], np.float32)
    assert np.isfinite(reconstruction_errors(mixed_encoder(tmp_path / "mixed", columns, rows[:2]), rows)).all()


def mixed_encoder(folder: Path, columns: tuple[Column, ...], rows: NDArray[np.float32]) -> Encoder:
    """An untrained encoder of a table with gaps."""
    preprocess = fit_preprocessor(rows, "standard", columns)
    torch.manual_seed(0)
    halves = nn.Linear(preprocess.features, 2), nn.Linear(2, preprocess.features)
    folder.mkdir()
    header = {"input_shape": [len(columns)], "latent_dim": 2, "output": "values"}
    write_encoder(folder, *(nn.Sequential(half) for half in halves), preprocess=preprocess, header=header)
    return load_encoder(folder)


def test_an_overflowing_reconstruction_has_an_infinite_error(tmp_path: Path) -> None:
    encoder = answering(tmp_path / "encoder", [0.0, 0.0], factor=1e30)
    errors = reconstruction_errors(encoder, np.array([[1e30, 0], [0, 0]], np.float32))
    assert errors.tolist() == [math.inf, 0]
    assert FOUR.p_values(errors, reals(5, 0)) == pytest.approx([1 / 5, 1])


def test_rows_in_blocks_are_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, rows = load_encoder(encoder_at(tmp_path / "encoder", cloud(6, 2))), cloud(25, 6, seed=1)
    whole = reconstruction_errors(encoder, rows)
    monkeypatch.setattr("lookalike.training.artifact.encoder._BLOCK_ROWS", 7)
    assert reconstruction_errors(encoder, rows) == pytest.approx(whole)
    assert reconstruction_errors(encoder, rows[:0]).shape == (0,)


@pytest.mark.parametrize("value", [10.0, 1e30, float(np.finfo(np.float32).max)])
def test_one_calibration_row_of_any_size_changes_p_values_as_any_other_row_does(value: float) -> None:
    """A p-value counts rows, whatever their values: by the distance alone, one row adds a thousandth.

    By both it is a few thousandths for most, and more where a count goes from one to two and the product doubles.
    """
    rng = np.random.default_rng(0)
    errors, distances, asked = rng.random(999), rng.random(999), rng.random((2, 500))
    clean = Novelty.calibrate(errors, distances)
    errors[3] = distances[3] = value
    spoilt = Novelty.calibrate(errors, distances)
    assert np.abs(spoilt.p_values(None, asked[1]) - clean.p_values(None, asked[1])).max() <= 0.001 + 1e-12
    changes = np.abs(spoilt.p_values(*asked) - clean.p_values(*asked))
    assert (changes.mean() < 0.002, changes.max() < 0.03) == (True, True)
