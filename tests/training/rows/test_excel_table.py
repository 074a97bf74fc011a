import sys
import zipfile
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.rows.excel_table import MAX_BYTES


def book(path: Path, *rows: list[Any]) -> Path:
    """A workbook with one sheet."""
    made = openpyxl.Workbook()
    for row in rows:
        made.worksheets[0].append(row)
    made.save(path)
    return path


def test_reads_typed_cells(tmp_path: Path) -> None:
    path = book(
        tmp_path / "a.xlsx",
        ["id", "x", "n", "sold", "at", "day", "clock", "note"],
        [7, 1.5, 1, True, datetime(2024, 1, 2, 3, 4, 5), date(2024, 1, 2), time(3, 4), "one"],
        ["b", 2, None, False, datetime(2024, 1, 3), None, time(5, 6), 2],
        [],
        ["c", 3, 4, None, None, date(2024, 1, 4), None, None],
    )
    rows = open_rows(path)
    (chunk,) = rows.chunks()
    places = [[column.name for column in rows.columns].index(name) for name in ("x", "n", "sold")]
    np.testing.assert_array_equal(chunk.inputs[:, places], [[1.5, 1, 1], [2, np.nan, 0], [3, 4, np.nan]])
    assert chunk.ids == ["7", "b", "c"]
    assert [payload["note"] for payload in chunk.payloads] == ["one", "2", None]
    assert chunk.payloads[0]["at"].startswith("2024-01-02 03:04:05")
    assert chunk.payloads[1]["day"] is None


def test_text_among_numbers_is_read_like_a_text_file(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ["x", "y", "zip"], [1, "1,000", "00501"], ["NA", "2,500.5", "10001"], [3, 7, "7"])
    (chunk,) = open_rows(path).chunks()
    np.testing.assert_array_equal(chunk.inputs, [[1, 1000], [np.nan, 2500.5], [3, 7]])
    assert [payload["zip"] for payload in chunk.payloads] == ["00501", "10001", "7"]


def test_the_header_is_the_first_row_that_is_not_empty(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", [], [None, "x"], [None, 1], [None, 2])
    (chunk,) = open_rows(path).chunks()
    assert chunk.inputs.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "expected a row of column names, found an empty sheet"),
        ([["x"]], "expected at least one row"),
        ([["x", None, "y"], [1, 2, 3]], "expected a name for each column, found no name for column 1"),
        ([["x", "x"], [1, 2]], "expected unique column names, found 'x' at least twice"),
    ],
)
def test_refuses_a_sheet_that_is_not_a_table(tmp_path: Path, rows: list[list[Any]], expected: str) -> None:
    with pytest.raises(DataError) as caught:
        open_rows(book(tmp_path / "a.xlsx", *rows))
    assert expected in str(caught.value)


@pytest.mark.parametrize("contents", [b"", b"x,y\n1,2\n", b"PK\x03\x04"])
def test_refuses_a_file_that_is_not_a_workbook(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(contents)
    with pytest.raises(DataError, match=r"a\.xlsx: expected an \.xlsx workbook"):
        open_rows(tmp_path / "a.xlsx")


def test_refuses_another_zip_archive_and_a_bomb(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(DataError, match=r"a\.xlsx: expected a readable workbook"):
        open_rows(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x", "w") as member:
        for _ in range(MAX_BYTES // (1 << 24) + 1):
            member.write(bytes(1 << 24))
    with pytest.raises(DataError, match="expected a workbook of at most"):
        open_rows(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    ("cell", "found"), [("XFD1048576", "1,048,576 rows and 16,384"), ("AA1000000", "1,000,000 rows and 27")]
)
def test_refuses_a_sheet_that_reaches_too_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, found: str
) -> None:
    monkeypatch.setattr("lookalike.training.rows.excel_table.MAX_CELLS", 10_000_000)
    path, far = book(tmp_path / "a.xlsx", ["x"], [1]), tmp_path / "far.xlsx"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(far, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.startswith("xl/worksheets/"):
                last = f'<row r="{cell.lstrip("ADFX")}"><c r="{cell}"><v>1</v></c></row></sheetData>'
                content = content.replace(b"</sheetData>", last.encode())
            target.writestr(name, content)
    with pytest.raises(DataError, match=f"found {found} columns in xl/worksheets/sheet1.xml"):
        open_rows(far)
    assert open_rows(path).count == 1


def test_names_the_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = book(tmp_path / "a.xlsx", ["x"], [1])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(DataError, match=r"pip install 'lookalike\[excel\]'"):
        open_rows(path)
