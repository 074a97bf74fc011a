import csv
import gzip
import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.csv_header import PIECE, read_header
from lookalike.training.rows.csv_text import LONGEST, read_cells

PIECES = 'a"",\n\r é'


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells(path: Path, size: int = PIECE, settings: DataConfig | None = None) -> list[list[str | None]]:
    """All rows, read `size` bytes at a time."""
    batches = read_cells(path, read_header(path, settings), size)
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


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "^", "a", " "])
@pytest.mark.parametrize("seed", range(10))
def test_reads_any_delimiter_like_python_for_every_piece_size(tmp_path: Path, seed: int, delimiter: str) -> None:
    draw = random.Random(seed)
    rows = [["".join(draw.choices(f'{delimiter},"\n\ré', k=draw.randint(0, 5))) for _ in range(3)] for _ in range(5)]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
        [["x", "y", "z"], *rows]
    )
    path = written(tmp_path / "a.csv", out.getvalue())
    for size in range(1, len(out.getvalue().encode()) + 2):
        assert cells(path, size, DataConfig(delimiter=delimiter)) == rows


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1", "utf-16-be"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("size", [1, 2, 3, 7, PIECE])
def test_reads_an_encoding_for_every_piece_size(
    tmp_path: Path, encoding: str, compress: Callable[[bytes], bytes], size: int
) -> None:
    path = written(tmp_path / "a.csv", compress('å,b\n"é\nü",1\r\nÿ,2\n'.encode(encoding)))
    settings = DataConfig() if encoding in {"utf-16", "utf-32"} else DataConfig(encoding=encoding)
    assert read_header(path, settings).names == ["å", "b"]
    assert cells(path, size, settings) == [["é\nü", "1"], ["ÿ", "2"]]


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


@pytest.mark.parametrize(
    ("contents", "encoding", "found"),
    [
        (b"a,b\n1,2\n3,\x81\n", "cp1252", "text in CP1252, found the byte 0x81"),
        ("a,b\n1,2\n".encode("utf-16") + b"\0", "auto", "text in UTF-16, found the byte 0x00"),
    ],
)
def test_names_bytes_that_are_not_in_the_encoding(tmp_path: Path, contents: bytes, encoding: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        cells(written(tmp_path / "a.csv", contents), settings=DataConfig(encoding=encoding))
    assert found in str(caught.value)


def test_names_a_damaged_file(tmp_path: Path) -> None:
    contents = bytearray(gzip.compress(random.Random(0).randbytes(1 << 20).hex().encode() + b"\n"))
    contents[-5] ^= 1
    with pytest.raises(DataError, match=r"a\.csv: expected an intact file, found .*incorrect data check"):
        cells(written(tmp_path / "a.csv", gzip.compress(b"x\n") + bytes(contents)), size=1 << 10)


def test_an_unclosed_quote_does_not_read_the_whole_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'a,b\n1,2\n3,"' + "y" * (LONGEST + 2 * PIECE))
    rows = read_cells(path, read_header(path))
    assert len(next(rows)) == 1
    with pytest.raises(DataError, match="row 1: expected a closing quote"):
        next(rows)
