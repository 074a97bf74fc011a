import json
from typing import Any

import numpy as np
import pytest

from lookalike.training.tables.columns import BOOLEANS, Column, FittedColumn, describe_columns, read_columns, spell

COLOUR = Column("colour", "categorical", ("blue", "red"))
SOLD = Column("sold", "boolean", BOOLEANS)
FITTED = (
    FittedColumn(Column("cost"), 2, (), offset=3.5, factor=0.1, low=1.0, high=9.0, mean=3.5, origin=1.76e9 + 2**-20),
    FittedColumn(SOLD, 0, (61, 39)),
    FittedColumn(COLOUR, 1, (12, 87)),
)
TOLD: list[dict[str, Any]] = [
    {
        "name": "cost",
        "kind": "numeric",
        "missing": 2,
        "origin": 1760000000.00000095367431640625,
        "offset": 3.5,
        "factor": 0.1,
        "low": 1.0,
        "high": 9.0,
        "mean": 3.5,
    },
    {"name": "sold", "kind": "boolean", "missing": 0, "counts": [61, 39]},
    {"name": "colour", "kind": "categorical", "missing": 1, "values": ["blue", "red"], "counts": [12, 87]},
]


def test_columns_are_told_in_plain_json_and_read_back_the_same() -> None:
    assert describe_columns(FITTED) == TOLD
    assert read_columns(json.loads(json.dumps(TOLD))) == FITTED


def test_float32_numbers_survive_to_the_last_bit() -> None:
    third = float(np.float32(1 / 3))
    fitted = (FittedColumn(Column("x"), 0, (), offset=third, factor=third, low=third, high=third, mean=third),)
    assert read_columns(json.loads(json.dumps(describe_columns(fitted)))) == fitted


@pytest.mark.parametrize(
    ("number", "changed", "told"),
    [
        (0, {"kind": "text"}, "column 0 is of no known kind"),
        (0, {"name": 3}, "column 0 has the name 3"),
        (0, {"missing": -1}, "column 0, missing is -1"),
        (0, {"missing": True}, "column 0, missing is True"),
        (0, {"missing": 1.0}, "column 0, missing is 1.0"),
        (0, {"factor": 0.0}, "column 0 has factor 0.0"),
        (0, {"factor": "1"}, "column 0 has factor '1'"),
        (0, {"offset": float("nan")}, "column 0 has offset nan"),
        (0, {"mean": None}, "column 0 has mean None"),
        (0, {"origin": float("inf")}, "column 0 has origin inf"),
        (0, {"high": 1e39}, "column 0 has high 1e+39"),
        (0, {"low": 10.0}, "low 10.0"),
        (0, {"counts": [1]}, "column 0 has the keys"),
        (1, {"values": ["a", "b"]}, "column 1 has the keys"),
        (1, {"counts": [1]}, "not one count for each of its 2 values"),
        (1, {"counts": None}, "not one count for each"),
        (1, {"name": "colour"}, "columns of one name"),
        (2, {"counts": [1, 2, 3]}, "not one count for each"),
        (2, {"counts": [1, "2"]}, "column 2, counts is '2'"),
        (2, {"values": []}, "column 2, values are not texts"),
        (2, {"values": ["blue", 3]}, "column 2, values are not texts"),
        (2, {"values": ["blue", "blue"]}, "column 2, values has one twice"),
    ],
)
def test_what_nobody_told_is_refused_by_column(number: int, changed: dict[str, Any], told: str) -> None:
    damaged = [one | changed if place == number else one for place, one in enumerate(TOLD)]
    with pytest.raises(ValueError, match="column") as refused:
        read_columns(damaged)
    assert told in str(refused.value)


@pytest.mark.parametrize("told", [[], {}, None, "columns", [3], [None], [{}], [{"kind": ["numeric"]}]])
def test_what_is_no_list_of_columns_is_refused(told: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_columns(told)


@pytest.mark.parametrize("key", ["name", "kind", "missing", "offset", "mean"])
def test_a_column_that_leaves_something_out_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="column 0"):
        read_columns([{name: value for name, value in TOLD[0].items() if name != key}])


def test_codes_are_the_places_of_the_values() -> None:
    assert COLOUR.codes == {"blue": 0.0, "red": 1.0}


def test_rows_are_spelt_as_json_takes_them() -> None:
    rows = np.array([[2.5, 1, 0], [np.nan, 0, np.nan]], np.float32)
    columns = tuple(one.column for one in FITTED)
    assert spell(rows, columns) == [[2.5, True, "blue"], [None, False, None]]


def test_rows_of_no_named_columns_are_spelt_as_numbers() -> None:
    assert spell(np.array([[1, 2]], np.float32), ()) == [[1.0, 2.0]]
