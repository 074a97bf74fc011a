from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.csv_kinds import WORDS, Tally, convert

TEXT, WHOLE, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def texts(*values: str | None) -> pa.Array:
    return pa.array(values, pa.string())


def tally_of(*parts: list[str | None]) -> Tally:
    tally = Tally()
    for part in parts:
        tally.add(texts(*part))
    return tally


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", None], WHOLE),
        (["9223372036854775807"], WHOLE),
        (["9223372036854775808"], REAL),
        (["1", "2.5"], REAL),
        (["1.0", "1e3", ".5", "5.", "+7", "-1E-3"], REAL),
        ([" 1", "2\t"], WHOLE),
        (["inf", "-Infinity", "1"], REAL),
        (["9" * 5000, "0." + "1" * 5000], REAL),
        (["1", "NA", "null", "-"], WHOLE),
        (["1", "two", "3"], REAL),
        (["1", "two"], TEXT),
        (["NA", "NA"], TEXT),
        (["NA", "EU", "AS"], TEXT),
        ([None, None], TEXT),
        (["00501", "10001"], TEXT),
        (["007", "-08"], WHOLE),
        (["007", "0.5"], REAL),
        (["0", "10"], WHOLE),
        (["true", "False", "TRUE", None, "NaN"], FLAG),
        (["true", "yes"], TEXT),
        (["true", "1"], TEXT),
        (["1_000", "2_000"], TEXT),
        (["0x10", "0x11"], TEXT),
        (["nan(1)", "nan(2)"], TEXT),
        (["1,000", "2,000"], TEXT),
        (["٣", "٤"], TEXT),
    ],
)
def test_infers_the_kind_of_a_column_from_all_cells(values: list[str | None], kind: pa.DataType) -> None:
    assert tally_of(values).kind() == kind
    assert tally_of(*([value] for value in values)).kind() == kind


def test_text_may_follow_any_number_of_numbers() -> None:
    assert tally_of(["1"] * 10, ["x"] * 10).kind() == TEXT
    assert tally_of(["1"] * 10, ["x"] * 9).kind() == REAL
    assert tally_of(["true"] * 10, ["maybe"]).kind() == TEXT


def test_counts_words_for_a_missing_value_separately_from_empty_cells() -> None:
    tally = tally_of(["1", *WORDS, None, " ", ""], ["2", " na ", "NONE"])
    assert (tally.words, tally.values, tally.numbers) == (len(WORDS) + 2, 2, 2)


@pytest.mark.parametrize(
    ("values", "kind", "fits"),
    [
        (["1", "NA"], REAL, True),
        (["1", "x"], REAL, False),
        (["1", "true"], REAL, False),
        (["true", "null"], FLAG, True),
        (["true", "1"], FLAG, False),
        (["1", "x"], TEXT, True),
    ],
)
def test_fits(values: list[str | None], kind: pa.DataType, fits: bool) -> None:
    assert tally_of(values).fits(kind) is fits


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["$1.50", "2"], "a number may only have digits"),
        (["1,000", "12 %", "€3", "1'000"], "a number may only have digits"),
        (["00501", "10001"], "leading zeros"),
        (["1,000", "x"], ""),
        (["x", "1,000"], ""),
        (["1", "2"], ""),
        ([None], ""),
    ],
)
def test_notes_text_that_looks_like_numbers(values: list[str | None], expected: str) -> None:
    if expected:
        assert expected in tally_of(values).note("price")
    else:
        assert tally_of(values).note("price") == ""


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["NA", "", None, "-"], TEXT, ["NA", "", None, "-"]),
        (["1", "NA", "", None, " 2 "], WHOLE, [1, None, None, None, 2]),
        (["9007199254740993"], WHOLE, [9007199254740993]),
        (["1.5", "-NaN", "+2", "1e400"], REAL, [1.5, None, 2, np.inf]),
        (["true", "FALSE", "n/a", "1", "0", ""], FLAG, [True, False, None, True, False, None]),
    ],
)
def test_converts_cells_to_their_kind(values: list[str | None], kind: pa.DataType, expected: list[object]) -> None:
    converted = convert(texts(*values), kind, (Path("t"), "x"), 0)
    assert (converted.type, converted.to_pylist()) == (kind, expected)


@pytest.mark.parametrize(
    ("cell", "kind", "expected"),
    [
        ("oops", REAL, "a number"),
        ("nan(1)", REAL, "a number"),
        ("true", REAL, "a number"),
        ("2", FLAG, "true, false, 1 or 0"),
        ("maybe", FLAG, "true, false, 1 or 0"),
    ],
)
def test_names_a_cell_of_another_kind(cell: str, kind: pa.DataType, expected: str) -> None:
    with pytest.raises(DataError, match=rf"t, row 12, column x: expected {expected}; or .* found '") as caught:
        convert(texts("1", None, cell, "other"), kind, (Path("t"), "x"), 10)
    assert repr(cell) in str(caught.value)
