"""Tables of the quality benchmark as numbers, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality_tables import columns, standardized

ITEMS = pd.DataFrame({"size": [1.0, 3.0, None], "kind": ["a", "b", "a"], "label": ["x", "y", "x"]})
QUERIES = pd.DataFrame({"size": [4.0, None], "kind": ["c", None], "label": ["x", "y"]})


def test_columns_are_numbers_and_codes() -> None:
    (numbers, codes), (asked, asked_codes) = columns(ITEMS, QUERIES)
    assert np.isnan(numbers[2, 0])
    assert numbers[:2].tolist() == [[1], [3]]
    assert codes.tolist() == [[0], [1], [0]]
    assert asked[0].tolist() == [4]
    assert asked_codes.tolist() == [[2], [-1]]


def test_numbers_are_standardized_and_two_kinds_differ_by_one() -> None:
    items, queries = standardized(ITEMS, QUERIES)
    half = 1 / 2**0.5
    assert items.tolist() == [pytest.approx([-1, half, 0]), pytest.approx([1, 0, half]), pytest.approx([0, half, 0])]
    assert queries.tolist() == [pytest.approx([2, 0, 0]), [0, 0, 0]]
