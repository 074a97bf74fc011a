import math

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.training.rows import fingerprints, sketches
from tests.factories import blobs


def test_fingerprints_of_equal_rows_are_equal() -> None:
    odd_nan = np.array([0x7FC00001], np.uint32).view(np.float32)[0]  # a NaN with different bits
    rows = np.array([[0, 1], [-0.0, 1], [1, 0], [math.nan, 0], [odd_nan, 0], [0, 1]], np.float32)
    prints = fingerprints(rows)
    assert prints[0] == prints[1] == prints[5]
    assert prints[3] == prints[4]
    assert len(set(prints)) == 3
    assert prints.dtype == np.uint64


def test_fingerprints_differ_if_one_value_or_the_order_differs() -> None:
    rows = np.random.default_rng(0).integers(0, 2, (5_000, 64)).astype(np.float32)
    assert len(np.unique(fingerprints(rows))) == len(np.unique(rows, axis=0)) == 5_000
    assert len(set(fingerprints(np.eye(64, dtype=np.float32)))) == 64


def test_fingerprints_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fingerprints(blobs(50))
    monkeypatch.setattr("lookalike.training.rows.fingerprint._BLOCK_VALUES", 40)
    assert np.array_equal(fingerprints(blobs(50)), whole)
    assert fingerprints(np.zeros((3, 0), np.float32)).tolist() == [0, 0, 0]


def test_fingerprints_leave_the_rows_unchanged() -> None:
    rows = np.array([[-0.0], [math.nan]], np.float32)
    before = rows.tobytes()
    fingerprints(rows)
    assert rows.tobytes() == before


def test_a_sketch_depends_on_64_fixed_columns() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 300)).astype(np.float32)
    known = sketches(rows)
    assert len(set(known)) == 500
    assert np.array_equal(sketches(rows[::-1]), known[::-1])
    influential = [column for column in range(300) if not np.array_equal(sketches(_changed(rows, column)), known)]
    assert len(influential) == 64
    narrow = rows[:, :64]
    assert np.array_equal(sketches(narrow), fingerprints(narrow))


def _changed(rows: NDArray[np.float32], column: int) -> NDArray[np.float32]:
    other = rows.copy()
    other[:, column] += 1
    return other
