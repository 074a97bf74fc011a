import csv
import io
import random
from pathlib import Path

import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.csv_header import PIECE, Header, read_header
from lookalike.training.rows.csv_text import LONGEST, read_cells

PIECES = 'a"",\n\r é'


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells(path: Path, size: int = PIECE) -> list[list[str | None]]:
    """All rows, read `size` bytes at a time."""
    batches = read_cells(path, read_header(path), size)
    return [list(row) for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]


def python_cells(text: str) -> list[list[str]]:
    """The rows according to Python's reader, without blank lines."""
    return [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]


def is_endless(text: str) -> bool:
    """Whether the text ends inside a quoted cell."""
    return python_cells(f"x\n{text}\nlast")[-1] != ["last"]


def random_table(draw: random.Random) -> str:
    """A header and rows of awkward cells, as Python's writer formats them."""
    width, out = draw.randint(1, 3), io.StringIO()
    line = draw.choice(["\n", "\r\n", "\r", ""])
    minimal = csv.writer(out)  # only with CRLF as its line end does it quote a bare CR
    writer = csv.writer(out, lineterminator=line, quoting=csv.QUOTE_ALL) if line else minimal
    writer.writerow(f"c{i}" for i in range(width))
    for _ in range(draw.randint(0, 6)):
        writer.writerow("".join(draw.choices(PIECES, k=draw.randint(0, 5))) for _ in range(width))
    return out.getvalue()


@pytest.mark.parametrize("seed", range(60))
def test_reads_a_written_table_like_python_for_every_piece_size(tmp_path: Path, seed: int) -> None:
    text = random_table(random.Random(seed))
    path, expected = written(tmp_path / "a.csv", text), python_cells(text)
    for size in range(1, len(text.encode()) + 2):
        assert [[cell or "" for cell in row] for row in cells(path, size)] == expected


@pytest.mark.parametrize("seed", range(200))
def test_reads_any_text_like_python_or_refuses_it_for_every_piece_size(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    text = "a,b\n" + "".join(draw.choices(PIECES, k=draw.randint(0, 20)))
    path, expected = written(tmp_path / "a.csv", text), python_cells(text)
    wrong = is_endless(text) or any(len(row) != 2 for row in expected)
    for size in range(1, len(text.encode()) + 2):
        if wrong:
            with pytest.raises(DataError, match=r"a\.csv, row \d+: expected"):
                cells(path, size)
        else:
            assert [[cell or "" for cell in row] for row in cells(path, size)] == expected


@pytest.mark.parametrize("before", [-3, -2, -1, 0, 1])
def test_keeps_quoted_line_breaks_at_the_edge_of_a_piece(tmp_path: Path, before: int) -> None:
    start = b'x,note\r\n1,"'
    long = b"y" * (PIECE - len(start) - before)
    path = written(tmp_path / "a.csv", start + long + b'A\r\nB"\r\n2,"C\nD"\r\n')
    (_, first), (_, last) = cells(path)
    assert first is not None
    assert (first[-4:], last) == ("A\r\nB", "C\nD")


def test_quoted_text_that_looks_like_rows_is_one_cell(tmp_path: Path) -> None:
    note = "\n".join(f"fake{i},1" for i in range(100))
    path = written(tmp_path / "a.csv", "note,x\n" + f'"{note}",7\n' * 50)
    assert cells(path, size=100) == [[note, "7"]] * 50


def test_only_an_unquoted_empty_cell_is_null(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'a,b\n,""\nNA,"null"\nnan,-\n')
    assert cells(path) == [[None, ""], ["NA", "null"], ["nan", "-"]]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\r\n", b"\xef\xbb\xbf\r\r"])
def test_the_header_is_the_first_line_that_is_not_blank(tmp_path: Path, start: bytes) -> None:
    path = written(tmp_path / "a.csv", start + b'"a, ""b""\nc",d\r\n1,2\r\n')
    assert read_header(path) == Header(['a, "b"\nc', "d"], len(start) + 14)
    assert cells(path) == [["1", "2"]]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "found an empty file"),
        (b"\r\n\n", "found an empty file"),
        ("a,b\n1,2\n".encode("utf-16"), "expected text in UTF-8, found UTF-16. Save the file as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "found UTF-16"),
        (b"a,caf\xe9\n1,2\n", "found the byte 0xe9"),
        (b'a,"b\n1,2\n', "found a quoted name without a closing quote"),
        (b"a" * (PIECE + 1), "found a longer line"),
        (b"a" * 200_000 + b"\n1\n", "field larger than field limit"),
    ],
)
def test_refuses_a_first_line_that_is_not_a_header(tmp_path: Path, content: bytes, found: str) -> None:
    with pytest.raises(DataError, match=r"a\.csv: expected") as caught:
        read_header(written(tmp_path / "a.csv", content))
    assert found in str(caught.value)


@pytest.mark.parametrize("size", [1, 5, PIECE])
@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("1,2\n\n3\n", "row 1: expected 2 cells, one for each name in the header, found 1 in '3'"),
        ('1,2\n"x\ny",3\n4,5,6\n', "row 2: expected 2 cells, one for each name in the header, found 3 in '4,5,6'"),
        ('1,2\n3,"4\n5,6\n', "row 1: expected a closing quote for each quoted cell"),
        ('1,2\n3,"4"" \r', "row 1: expected a closing quote for each quoted cell"),
    ],
)
def test_names_a_row_that_does_not_fit(tmp_path: Path, rows: str, found: str, size: int) -> None:
    with pytest.raises(DataError) as caught:
        cells(written(tmp_path / "a.csv", f"a,b\n{rows}"), size)
    assert found in str(caught.value)


def test_names_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1, column b: expected text in UTF-8, found the byte 0xe9"):
        cells(written(tmp_path / "a.csv", b"a,b\n1,\xc3\xa9\n2,\xe9\n"), size=4)


def test_an_unclosed_quote_does_not_read_the_whole_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'a,b\n1,2\n3,"' + "y" * (LONGEST + 2 * PIECE))
    rows = read_cells(path, read_header(path))
    assert len(next(rows)) == 1
    with pytest.raises(DataError, match="row 1: expected a closing quote"):
        next(rows)
