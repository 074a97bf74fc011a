from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.training.errors import DataError
from lookalike.training.rows.csv_kinds import WORDS, Tally, convert, settle_decimals

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
        (["1,000", "2,000"], WHOLE),
        (["999", "1,000", "1,000,000"], WHOLE),
        (["1,000.5", "2"], REAL),
        (["0,5", "1,25"], REAL),
        (["1.234,50", "2"], REAL),
        (["1.234.567", "1.000"], WHOLE),
        (["1'000", "12 000", "3\u202f000"], WHOLE),
        (["$1", "$ 2", "-$3", "$-4", "5"], WHOLE),
        (["1.50 €", "-2 €"], REAL),
        (["12 %", "3.5%"], REAL),
        (["$1", "€2"], TEXT),
        (["12 %", "0.5"], TEXT),
        (["0,5", "0.5"], TEXT),
        (["1,00", "1,0000"], REAL),
        (["12,34,567"], TEXT),
        (["1 2", "3 4"], TEXT),
        (["$", "%"], TEXT),
        (["31.12.2024", "1.1.2025"], TEXT),
        (["192.168.0.1", "10.0.0.1"], TEXT),
        (["(1)", "(2)"], TEXT),
        (["٣", "٤"], TEXT),
    ],
)
def test_infers_the_kind_of_a_column_from_all_cells(values: list[str | None], kind: pa.DataType) -> None:
    for tally in (tally_of(values), tally_of(*([value] for value in values))):
        settle_decimals([tally], ",")
        assert tally.kind() == kind


def test_text_may_follow_any_number_of_numbers() -> None:
    assert tally_of(["1"] * 10, ["x"] * 10).kind() == TEXT
    assert tally_of(["1"] * 10, ["x"] * 9).kind() == REAL
    assert tally_of(["true"] * 10, ["maybe"]).kind() == TEXT


def test_counts_words_for_a_missing_value_separately_from_empty_cells() -> None:
    tally = tally_of(["1", *WORDS, None, " ", ""], ["2", " na ", "NONE"])
    assert (tally.words, tally.values, tally.read.count) == (len(WORDS) + 2, 2, 2)


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
        (["$1.50", "2"], "column price: '$1.50' is read as 1.5"),
        (["2", "1,000"], "column price: '1,000' is read as 1000; for the decimal mark ',' add `--set data.decimal=,`"),
        (["1,234.5"], "column price: '1,234.5' is read as 1234.5"),
        (["0,5"], "column price: '0,5' is read as 0.5"),
        (["12 %"], "column price: '12 %' is read as 12"),
        (["$1", "€3"], "column price is text: its numbers have different units ('$', '€')"),
        (["5", "5%"], "column price is text: its numbers have different units (no sign, '%')"),
        (["00501", "10001"], "column price is text: its whole numbers have leading zeros, as codes do"),
        (["1.234", "5.678"], ""),
        (["1,000", "x"], ""),
        (["x", "1,000"], ""),
        (["1", "2"], ""),
        ([None], ""),
    ],
)
def test_notes_how_numbers_were_read_or_why_they_are_text(values: list[str | None], expected: str) -> None:
    tally = tally_of(values)
    settle_decimals([tally], ",")
    assert tally.note("price") == expected


@pytest.mark.parametrize(
    ("columns", "delimiter", "decimals"),
    [
        ([["1,234"]], ",", "."),
        ([["1,234"]], "\t", "."),
        ([["1,234"]], ";", ","),
        ([["1.234"]], ";", "."),
        ([["1.234"], ["0,5"]], ";", ",,"),
        ([["1,234"], ["0.5"]], ";", ".."),
        ([["1,234"], ["0,5"]], "\t", ",,"),
        ([["1,234"], ["0,5"], ["0.5"]], ",", ".,."),
        ([["1,234"], ["0,5", "x", "y"]], ",", ".."),
        ([["0,5"], ["0.5"]], ",", ",."),
        ([["1"], ["0,5"]], ",", ",,"),
    ],
)
def test_the_columns_that_prove_a_decimal_mark_decide_for_the_others(
    columns: list[list[str | None]], delimiter: str, decimals: str
) -> None:
    tallies = [tally_of(values) for values in columns]
    settle_decimals(tallies, delimiter)
    assert "".join(tally.decimal for tally in tallies) == decimals


@pytest.mark.parametrize(("decimal", "kind", "value"), [(".", WHOLE, 1234), (",", REAL, 1.234)])
def test_a_given_decimal_mark_decides(decimal: str, kind: pa.DataType, value: float) -> None:
    cells = texts("1,234", "5")
    tally = Tally(decimal)
    tally.add(cells)
    settle_decimals([tally], ",")
    assert tally.kind() == kind
    assert convert(cells, kind, (Path("t"), "x"), 0, decimal).to_pylist() == [value, 5]


def test_a_decimal_comma_makes_points_separators() -> None:
    tally = Tally(",")
    for part in (["1.234"], ["1.000", "7"], ["0.5"]):
        tally.add(texts(*part))
    assert (tally.read.count, tally.values) == (3, 4)
    assert convert(texts("1.234", "7"), REAL, (Path("t"), "x"), 0, ",").to_pylist() == [1234, 7]
    with pytest.raises(DataError, match=r"row 0, column x: expected a number; .* found '0\.5'"):
        convert(texts("0.5"), REAL, (Path("t"), "x"), 0, ",")


@settings(max_examples=200, deadline=None)
@given(st.decimals(-(10**9), 10**9, places=3), st.sampled_from([(",", "."), (".", ","), (" ", "."), ("'", ",")]))
def test_reads_a_number_however_it_is_grouped(number: Decimal, marks: tuple[str, str]) -> None:
    thousands, decimal = marks
    text = f"{number:,.3f}".replace(",", "t").replace(".", decimal).replace("t", thousands)
    (value,) = convert(texts(text), REAL, (Path("t"), "x"), 0, decimal).to_pylist()
    assert value == float(number)


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
