import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.rows.tables import MAX_COLUMNS
from lookalike.training.tables.columns import BOOLEANS, Column
from lookalike.training.transforms import InputSpec
from tests.factories import read_all

NAN = float("nan")


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_words_mean_missing_only_among_numbers(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "id,x,country,label\nNA,1,NA,null\nnull,NA,DE,NA\nnan,-,NA,nan\n-,null,,-\n")
    chunk = read_all(path)
    assert chunk.ids == ["NA", "null", "nan", "-"]
    np.testing.assert_array_equal(chunk.inputs, [[1], [NAN], [NAN], [NAN]])
    assert [payload["label"] for payload in chunk.payloads] == ["null", "NA", "nan", "-"]
    assert [payload["country"] for payload in chunk.payloads] == ["NA", "DE", "NA", None]


def test_words_are_categories_among_text(tmp_path: Path) -> None:
    rows = open_rows(str(csv(tmp_path / "a.csv", "country\n" + "NA\nDE\nnull\n" * 2)))
    assert rows.columns == (Column("country", "categorical", ("DE", "NA", "null")),)
    assert rows.notes == ()


def test_counts_the_words_read_as_missing_by_column(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "x,y,sold\n1,NA,true\nNA,NaN,-\n,2,false\n3,4,true\n")
    (note,) = open_rows(str(path)).notes
    assert "cells that were read as missing values: 1 of column x, 2 of column y, 1 of column sold (" in note
    known = open_rows(str(path), spec=InputSpec((Column("x"), Column("sold", "boolean", BOOLEANS))))
    assert known.notes == (note,)


def test_words_stay_text_in_an_encoders_text_column(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "country,x\nNA,1\nDE,NA\n,2\n")
    columns = (Column("country", "categorical", ("DE", "NA")), Column("x"))
    (chunk,) = open_rows(str(path), spec=InputSpec(columns)).chunks()
    np.testing.assert_array_equal(chunk.inputs, [[1, 1], [0, NAN], [NAN, 2]])


def test_an_encoders_boolean_column_may_contain_ones_and_zeros(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "sold\n1\n0\ntrue\nNA\n\n")
    columns = (Column("sold", "boolean", BOOLEANS),)
    (chunk,) = open_rows(str(path), spec=InputSpec(columns)).chunks()
    np.testing.assert_array_equal(chunk.inputs[:, 0], [1, 0, 1, NAN])
    csv(path, "sold\n1\n2\n")
    with pytest.raises(DataError, match=r"row 1, column sold: expected true, false, 1 or 0; .* found '2'"):
        open_rows(str(path), spec=InputSpec(columns))


def test_codes_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    rows = open_rows(str(csv(tmp_path / "a.csv", "zip,x\n00501,1\n10001,2\n")))
    (chunk,) = rows.chunks()
    assert [payload["zip"] for payload in chunk.payloads] == ["00501", "10001"]
    assert "column zip is text: its whole numbers have leading zeros" in rows.notes[0]


def test_whole_numbers_in_the_payload_are_exact(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "x,at\n1,1700000000000000001\n2,\n")
    (chunk,) = open_rows(str(path), spec=InputSpec((Column("x"),))).chunks()
    assert chunk.payloads == [{"x": 1, "at": 1700000000000000001}, {"x": 2, "at": None}]


def test_a_payload_column_of_numbers_and_text_is_text(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "x,size\n1,40\n2,41\n3,XL\n")
    (chunk,) = open_rows(str(path), spec=InputSpec((Column("x"),))).chunks()
    assert [payload["size"] for payload in chunk.payloads] == ["40", "41", "XL"]
    with pytest.raises(DataError, match=r"row 2, column size: expected a number; .* found 'XL'"):
        open_rows(str(path))


def test_numbers_may_have_any_length(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", f"x\n0.{'3' * 5000}\n1{'0' * 20}.{'0' * 5000}\n"))
    np.testing.assert_array_equal(chunk.inputs[:, 0], np.array([1 / 3, 1e20], np.float32))


@pytest.mark.parametrize("name", ["id", "label"])
def test_quoted_and_unquoted_empty_cells_differ_in_text(tmp_path: Path, name: str) -> None:
    path = csv(tmp_path / "a.csv", f'{name},note,x\nb,"",""\nc,,\nd,e,3\n')
    chunk = read_all(path)
    assert [payload["note"] for payload in chunk.payloads] == ["", None, "e"]
    np.testing.assert_array_equal(chunk.inputs[:, 0], [NAN, NAN, 3])


def test_a_column_of_empty_quotes_is_not_a_category(tmp_path: Path) -> None:
    rows = open_rows(str(csv(tmp_path / "a.csv", "x,note,kind\n" + '1,"","b"\n2,"",""\n' * 2)))
    assert rows.columns == (Column("x"), Column("kind", "categorical", ("", "b")))


def test_refuses_too_many_columns_before_parsing_a_row(tmp_path: Path) -> None:
    count = 200_000
    row = ",".join(["1.5"] * count)
    path = csv(tmp_path / "a.csv", ",".join(f"c{i}" for i in range(count)) + f"\n{row}\n{row}\n")
    code = (
        "import resource, sys\nfrom lookalike.training.rows import open_rows\n"
        "from lookalike.training.errors import DataError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    open_rows(sys.argv[1])\nexcept DataError as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    message, grown = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert f"expected at most {MAX_COLUMNS:,} columns, found 200,000" in message
    assert int(grown) < 200 << 10  # KiB
