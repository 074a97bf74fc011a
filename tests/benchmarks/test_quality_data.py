"""The splits of the quality benchmark that need no download."""

import numpy as np
import pandas as pd

from benchmarks.quality_data import Table, cleaned, digits, own_digits, split_table
from lookalike.training.rows import read_sample


def test_digits_are_split_by_the_seed() -> None:
    split = digits(5)
    assert (split.items.shape, split.queries.shape, split.shape) == ((1437, 64), (360, 64), (8, 8))
    counts = np.bincount(split.query_labels)
    assert counts.min() >= 34  # a fifth of each class
    assert not np.array_equal(split.queries, digits(6).queries)
    for rows, values in ((split.rows, split.items), (split.asked, split.queries)):
        assert np.array_equal(read_sample(rows, rows.count, seed=0)[0], values)


def test_the_own_split_of_digits_is_that_of_make_run() -> None:
    split = own_digits()
    assert (split.rows.name, split.asked.name) == ("digits", "digits:test")
    assert (len(split.items), len(split.queries)) == (1437, 360)


def test_a_table_is_split_by_the_seed() -> None:
    table = Table("ten", pd.DataFrame({"size": range(10), "label": list("aabbaabbaa")}))
    items, queries, item_labels, query_labels = split_table(table, 5)
    assert (len(items), len(queries)) == (7, 3)
    assert sorted([*items["size"], *queries["size"]]) == list(range(10))
    for part, labels in ((items, item_labels), (queries, query_labels)):
        assert labels.tolist() == [0 if label == "a" else 1 for label in part["label"]]


def test_text_becomes_numbers_if_nearly_all_of_it_is() -> None:
    numbers = cleaned(pd.Series([" 1", "2", "<null>", *map(str, range(27))], name="size"))
    assert numbers[:2].tolist() == [1, 2]
    assert numbers.isna().sum() == 1
    kinds = cleaned(pd.Series([" a", "b ", "?", "1"], name="kind"))
    assert kinds.dropna().tolist() == ["a", "b", "1"]
    assert cleaned(pd.Series(["0", "1"], name="label")).tolist() == ["0", "1"]
