import json
from typing import Any

import numpy as np
import pytest

from lookalike.training.tables.columns import (
    BOOLEANS,
    Column,
    FittedColumn,
    describe_columns,
    read_columns,
    to_json_rows,
)

COLOR = Column("color", "categorical", ("blue", "red"))
SOLD = Column("sold", "boolean", BOOLEANS)
FITTED = (
    FittedColumn(Column("cost"), 2, (), offset=3.5, factor=0.1, low=1.0, high=9.0, mean=3.5, origin=1.76e9 + 2**-20),
    FittedColumn(SOLD, 0, (61, 39)),
    FittedColumn(COLOR, 1, (12, 87)),
)
DESCRIBED: list[dict[str, Any]] = [
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
    {"name": "color", "kind": "categorical", "missing": 1, "values": ["blue", "red"], "counts": [12, 87]},
]


def test_columns_survive_a_round_trip_through_json() -> None:
    assert describe_columns(FITTED) == DESCRIBED
    assert read_columns(json.loads(json.dumps(DESCRIBED))) == FITTED


def test_float32_numbers_survive_to_the_last_bit() -> None:
    third = float(np.float32(1 / 3))
    fitted = (FittedColumn(Column("x"), 0, (), offset=third, factor=third, low=third, high=third, mean=third),)
    assert read_columns(json.loads(json.dumps(describe_columns(fitted)))) == fitted


@pytest.mark.parametrize(
    ("number", "changed", "message"),
    [
        (0, {"kind": "text"}, "column 0 has an unknown kind"),
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
        (1, {"counts": [1]}, "needs one count for each of its 2 values"),
        (1, {"counts": None}, "needs one count for each"),
        (1, {"name": "color"}, "columns have the same name"),
        (2, {"counts": [1, 2, 3]}, "needs one count for each"),
        (2, {"counts": [1, "2"]}, "column 2, counts is '2'"),
        (2, {"values": []}, "column 2, values are not a list of strings"),
        (2, {"values": ["blue", 3]}, "column 2, values are not a list of strings"),
        (2, {"values": ["blue", "blue"]}, "column 2, values has a duplicate"),
    ],
)
def test_refuses_an_invalid_column_and_names_it(number: int, changed: dict[str, Any], message: str) -> None:
    damaged = [one | changed if place == number else one for place, one in enumerate(DESCRIBED)]
    with pytest.raises(ValueError, match="column") as refused:
        read_columns(damaged)
    assert message in str(refused.value)


@pytest.mark.parametrize("value", [[], {}, None, "columns", [3], [None], [{}], [{"kind": ["numeric"]}]])
def test_refuses_anything_but_a_list_of_columns(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_columns(value)


@pytest.mark.parametrize("key", ["name", "kind", "missing", "offset", "mean"])
def test_refuses_a_column_without_a_key(key: str) -> None:
    with pytest.raises(ValueError, match="column 0"):
        read_columns([{name: value for name, value in DESCRIBED[0].items() if name != key}])


def test_codes_are_the_positions_of_the_values() -> None:
    assert COLOR.codes == {"blue": 0.0, "red": 1.0}


def test_spell_converts_rows_to_json_values() -> None:
    rows = np.array([[2.5, 1, 0], [np.nan, 0, np.nan]], np.float32)
    columns = tuple(one.column for one in FITTED)
    assert to_json_rows(rows, columns) == [[2.5, True, "blue"], [None, False, None]]


def test_spell_without_columns_returns_numbers() -> None:
    assert to_json_rows(np.array([[1, 2]], np.float32), ()) == [[1.0, 2.0]]


NANO = 1_700_000_000_000_000_000
TIME = FittedColumn(Column("at", base=NANO), 0, (), offset=1.0, factor=0.5, low=0.0, high=9.0, mean=3.5)


def test_a_base_survives_json_and_returns_the_whole_number() -> None:
    described = describe_columns((TIME,))
    assert described[0]["base"] == NANO
    assert read_columns(json.loads(json.dumps(described))) == (TIME,)
    rows = np.array([[3], [0.5], [np.nan]])
    assert to_json_rows(rows, (TIME.column,)) == [[NANO + 3], [float(NANO)], [None]]


@pytest.mark.parametrize("base", [1.5, "1", True, None, 2**64])
def test_refuses_a_base_that_is_no_whole_number_of_64_bits(base: Any) -> None:
    with pytest.raises(ValueError, match="column 0 has the base"):
        read_columns([describe_columns((TIME,))[0] | {"base": base}])


def test_only_numbers_have_a_base() -> None:
    with pytest.raises(ValueError, match="column 1 has the keys"):
        read_columns([DESCRIBED[0], DESCRIBED[1] | {"base": 1}])
