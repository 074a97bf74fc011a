"""The figures of the quality benchmark, on values worked out by hand."""

import math

import numpy as np
import pytest

from benchmarks.quality_scores import accuracy, eight_bits, moved, nearest, noisy, precision, recall_same, shifted, unit

FOUND = np.array([[0, 1, 2], [3, 2, 1]])
LABELS = np.array([7, 8, 8, 9])


def test_unit_vectors_have_length_one() -> None:
    assert unit(np.array([[3, 4], [0, 0]], np.float32)).tolist() == pytest.approx(
        np.array([[0.6, 0.8], [0, 0]], np.float32)
    )


def test_the_metric_decides_the_nearest() -> None:
    items = np.array([[10, 1], [1, 1]], np.float32)
    query = np.array([[1, 0]], np.float32)
    assert nearest(items, query, 5).tolist() == [[0, 1]]
    assert nearest(items, query, 1, cosine=False).tolist() == [[1]]


def test_precision_is_the_share_of_equal_labels() -> None:
    assert precision(FOUND, LABELS, np.array([8, 7])) == pytest.approx(2 / 6)


def test_accuracy_counts_votes_and_a_tie_goes_to_the_nearest() -> None:
    assert accuracy(FOUND, LABELS, np.array([8, 8])) == 1.0  # 7 8 8 and 9 8 8
    assert accuracy(np.array([[0, 3]]), LABELS, np.array([7])) == 1.0
    assert accuracy(np.array([[0, 3]]), LABELS, np.array([9])) == 0.0


def test_recall_is_the_share_of_queries_that_find_their_item() -> None:
    assert recall_same(FOUND, np.array([0, 1]), 1) == 0.5
    assert recall_same(FOUND, np.array([0, 1]), 3) == 1.0


def test_a_step_moves_a_picture_and_fills_zeros() -> None:
    picture = np.arange(1, 7, dtype=np.float32)[None]  # 1 2 3 / 4 5 6
    steps = np.array([[1, 0], [0, 1], [-1, -2], [0, 0]])
    assert shifted(picture.repeat(4, axis=0), (2, 3), steps).tolist() == [
        [0, 0, 0, 1, 2, 3],
        [0, 1, 2, 0, 4, 5],
        [6, 0, 0, 0, 0, 0],
        [1, 2, 3, 4, 5, 6],
    ]


def test_each_picture_moves_in_one_of_eight_directions() -> None:
    pictures = np.zeros((400, 25), np.float32)
    pictures[:, 12] = 1  # the middle of 5 x 5
    places = moved(pictures, (5, 5), 2, seed=0).argmax(axis=1)
    assert sorted(set(places.tolist())) == [0, 2, 4, 10, 14, 20, 22, 24]


def test_noise_has_the_deviation_of_the_range_and_is_clipped() -> None:
    rows = noisy(np.full((1, 200_000), 8, np.float32), 0.1, 16, seed=0)
    assert float(rows.std()) == pytest.approx(1.6, rel=0.02)
    black = noisy(np.zeros((1, 200_000), np.float32), 0.3, 1, seed=0)
    assert float(black.min()) == 0
    assert float(black.mean()) == pytest.approx(0.3 / math.sqrt(2 * math.pi), rel=0.02)


def test_eight_bits_are_256_steps_of_each_dimension() -> None:
    vectors = np.array([[0, -100], [255, 155], [3.6, 20.2]], np.float32)
    assert eight_bits(vectors).tolist() == [[0.5, -99.5], [255.5, 155.5], [3.5, 20.5]]
