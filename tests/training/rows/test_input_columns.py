"""Which columns of a table are input: small tables as batches, each with the columns that it must give."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.input_columns import FEWEST, MOST_CATEGORIES, choose_columns
from lookalike.training.tables.columns import BOOLEANS, TEXT_PARTS, Column

COUNT = FEWEST + 100
RNG = np.random.default_rng(0)


def chosen(
    table: dict[str, Any], categories: dict[str, tuple[str, ...]] | None = None, **settings: Any
) -> tuple[tuple[Column, ...], list[str]]:
    """The columns of a table that is read in batches of 100 rows, and the notes."""
    made = pa.table(table)
    batches = iter(made.to_batches(max_chunksize=100))
    return choose_columns("t", made.schema, batches, categories or {}, DataConfig(**settings))


def names(table: dict[str, Any], **settings: Any) -> list[str]:
    return [column.name for column in chosen(table, **settings)[0]]


def test_a_note_names_columns_that_may_be_embeddings() -> None:
    table = {"x": [1.5, 2.5], "vector": [[0.5, 1.0], [2.0, 3.5]], "sizes": [[1, 2], [3]]}
    columns, (note,) = chosen(table)
    assert [column.name for column in columns] == ["x"]
    assert "the values are lists of numbers: vector. If they are embeddings, build with --encoder none" in note
    assert chosen(table, exclude=("vector",))[1] == []


def test_finds_columns_in_the_files_order() -> None:
    table = {"kind": ["a", "b"], "id": [1, 2], "x": [1.5, 2.5], "note": ["u", "v"], "good": [True, False]}
    columns, notes = chosen(table, {"kind": ("a", "b")})
    assert columns == (Column("kind", "categorical", ("a", "b")), Column("x"), Column("good", "boolean", BOOLEANS))
    assert len(notes) == 1
    assert "many distinct values: note. --text note makes a column input as n-grams, --category note" in notes[0]


def test_times_of_any_type_become_their_parts() -> None:
    days = ["2013-01-01", None, "2013-03-01"]
    for values in (days, np.array(days, "M8[D]"), pa.array(days).cast(pa.timestamp("us"))):
        columns, notes = chosen({"x": [1, 2, 3], "day": values}, {"day": ("2013-01-01", "2013-03-01")})
        assert [column.name for column in columns] == ["x", "day.age", "day.weekday_sin", "day.weekday_cos"]
        assert columns[1] == Column("day.age", "numeric", (), "day", "age")
        assert notes == []


def test_one_text_that_is_no_time_makes_a_column_text() -> None:
    table = {"x": range(COUNT), "day": [*["2013-01-01"] * (COUNT - 1), "unknown"]}
    columns, _ = chosen(table, {"day": ("2013-01-01", "unknown")}, number=("x",))
    assert columns == (Column("x"), Column("day", "categorical", ("2013-01-01", "unknown")))


def test_the_settings_name_columns() -> None:
    table = {
        "x": [1, 2, 2],
        "zip": [10115, 7, None],
        "size": [1.5, 2, 2],
        "title": ["a b", "c", None],
        "n": ["1", "02", "3"],
    }
    columns, notes = chosen(table, category=("zip",), number=("n",), text=("title",), exclude=("size",))
    assert columns[:2] == (Column("x"), Column("zip", "categorical", ("10115", "7"), "zip", "code"))
    assert [column.part for column in columns[2:-1]] == list(TEXT_PARTS)
    assert columns[-1] == Column("n", "numeric", (), "n", "parsed")
    assert notes == []
    assert names(table, columns=("size", "x")) == ["x", "size"]
    assert names(table, category=("title",), columns=("x",)) == ["x", "title"]


@pytest.mark.parametrize("setting", ["columns", "exclude", "category", "number", "text"])
def test_refuses_a_name_that_the_table_lacks(setting: str) -> None:
    with pytest.raises(DataError, match=rf"data\.{setting}: expected names of columns of t: x, y, found 'z'"):
        chosen({"x": [1, 2], "y": ["a", "b"]}, {}, **{setting: ("z",)})


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        ({"label": ["a"], "x": [1]}, {"category": ("label",)}, "found 'label', which is never input"),
        ({"x": [1]}, {"text": ("x",)}, "t, column x: expected text, found int64"),
        ({"x": [[1]]}, {"number": ("x",)}, "t, column x: expected numbers or text, found list"),
        ({"x": ["1"]}, {"text": ("x",), "category": ("x",)}, "t, column x: expected each column in one of"),
        ({"x": ["1"]}, {"number": ("x",), "exclude": ("x",)}, "t, column x: expected each column in one of"),
        ({"x": ["1", "$2"]}, {"number": ("x",)}, r"t, row 1, column x: expected a number, found '\$2'"),
        ({"x": ["a", "b"]}, {"columns": ("x",)}, "t, column x: .* Use --text x or --category x"),
        ({"x": pa.array([None, None], pa.int8())}, {"category": ("x",)}, "found only missing values"),
        (
            {"x": range(MOST_CATEGORIES + 1)},
            {"category": ("x",)},
            "at most 4,096 distinct values in a category, found more",
        ),
        ({"day": ["2013-01-01"], "day.age": [1]}, {}, r"unique column names, found 'day\.age'"),
    ],
)
def test_refuses_columns_that_do_not_fit(table: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        chosen(table, **settings)


@pytest.mark.parametrize(
    ("name", "values", "is_identifier"),
    [
        ("row", range(COUNT), True),
        ("row", range(1_001, 1_001 + COUNT), True),
        ("row", RNG.permutation(COUNT), True),
        ("customer_id", RNG.integers(0, 10**6, COUNT), True),
        ("customerId", RNG.integers(0, 10**6, COUNT), True),
        ("order no", RNG.integers(0, 10**6, COUNT), True),
        ("customer_id", RNG.integers(0, 20, COUNT), False),  # twenty things: people may mean them as a measure
        ("row", range(FEWEST), False),  # a small table
        ("price", RNG.integers(0, 10**6, COUNT), False),  # different numbers, but far apart
        ("count", np.sort(RNG.integers(0, COUNT, COUNT)), False),
        ("count", np.cumsum(RNG.integers(1, 9, COUNT)), False),
        ("time", range(1_700_000_000, 1_700_000_000 + COUNT), False),  # seconds
        ("depth", range(-5, COUNT - 5), False),
        ("paid", RNG.integers(0, 10**6, COUNT), False),  # ends with "id", but is another word
        ("row", np.arange(COUNT, dtype=np.float64), False),
    ],
)
def test_whole_numbers_that_identify_rows_are_payload(name: str, values: Any, is_identifier: bool) -> None:
    columns, notes = chosen({name: values, "x": RNG.random(len(values))})
    assert [column.name for column in columns] == (["x"] if is_identifier else [name, "x"])
    assert [f"--number {name} makes a column input" in note for note in notes] == [True] * is_identifier
    assert name in names({name: values, "x": RNG.random(len(values))}, number=(name,))
    assert name in names({name: values, "x": RNG.random(len(values))}, columns=(name,))


def test_times_in_nanoseconds_have_a_base() -> None:
    nano = 1_700_000_000_000_000_000
    table = {"at": [nano + 5, None, nano + 7], "x": [1, 2, 3], "wide": [2**62, 1, -(2**62)]}
    assert chosen(table)[0] == (Column("at", base=nano + 5), Column("x"), Column("wide"))
