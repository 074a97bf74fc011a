import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.rows.json_table import LONGEST, json_file
from lookalike.training.rows.table_files import TableFile


def lines(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows_of(path: Path, size: int) -> list[dict[str, Any]]:
    """All rows, read `size` bytes at a time."""
    file = json_file(TableFile(path), size)
    found = [row for batch in file.read(2, None) for row in batch.to_pylist()]
    assert len(found) == file.count
    return found


@pytest.mark.parametrize("start", ["", "\ufeff", "\n\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\n"])
def test_reads_one_object_per_line_for_every_piece_size(tmp_path: Path, start: str, end: str) -> None:
    text = start + '{"x":1,"s":"é\\n"}\r\n\n{"x":2.5,"t":[1]}\n{"s":null,"o":{"k":"2024-01-02"}}' + end
    path = lines(tmp_path / "a.jsonl", text)
    expected = [
        {"x": 1, "s": "é\n", "t": None, "o": None},
        {"x": 2.5, "s": None, "t": [1], "o": None},
        {"x": None, "s": None, "t": None, "o": {"k": "2024-01-02"}},
    ]
    for size in (*range(1, len(text.encode()) + 2), 1 << 24):
        assert rows_of(path, size) == expected


def test_nested_objects_are_payload(tmp_path: Path) -> None:
    text = '{"id":"a","x":1,"o":{"k":[{"d":"2024-01-02T03:04:05"}]}}\n{"id":"b","x":2,"o":null}\n'
    (chunk,) = open_rows(lines(tmp_path / "a.jsonl", text)).chunks()
    assert (chunk.ids, chunk.inputs.tolist()) == (["a", "b"], [[1], [2]])
    assert [payload["o"] for payload in chunk.payloads] == [{"k": [{"d": "2024-01-02T03:04:05"}]}, None]


def test_text_that_looks_like_a_time_stays_as_written(tmp_path: Path) -> None:
    texts = ["2024-01-02", "2024-01-02T03:04:05+02:00", "soon", "2024-01-02 03:04"]
    path = lines(tmp_path / "a.jsonl", "\n".join(f'{{"x":1,"at":"{text}"}}' for text in texts))
    for size in (1, 1 << 24):
        assert [row["at"] for row in rows_of(path, size)] == texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"x":1},{"x":2}]', "row 0: expected one JSON object per line, found an array. Write each object on its own"),
        ("5\n", "row 0: expected one JSON object per line, found '5'"),
        ('{"x":1}\n{"x":"two"}\n', "row 1: expected one JSON object per line, each field with one type"),
        ('{"x":1}\n{"x":\n', "expected one JSON object per line"),
        ('{"x":1}\n[2]\n', "row 1: expected one JSON object per line"),
        ('{"x":1,"x":2}\n', "row 0: expected one JSON object per line"),
        (b'{"x":"a"}\n\n{"x":"\xe9"}\n', "row 1: expected text in UTF-8, found the byte 0xe9"),
        ('{"x":1}\n{"x":' + "[" * 100_000 + "]" * 100_000 + "}\n", "row 1: expected at most 100 levels of nesting"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "row 0: expected at most 100 levels of nesting"),
        ("", "found no row"),
        ("\n", "found no row"),
        ('{"t":"only text"}\n', "expected at least one column of numbers"),
    ],
)
def test_refuses_a_line_that_is_not_an_object_with_the_same_types(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        open_rows(lines(tmp_path / "a.jsonl", text))
    assert expected in str(caught.value)


def test_names_the_rows_of_a_field_that_changes_its_type(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", '{"x":1}\n{"x":2}\n{"x":"three"}\n')
    with pytest.raises(DataError, match=r"rows 2 to 2: expected one type for each field in all rows"):
        json_file(TableFile(path), size=8)


def test_refuses_a_line_without_an_end(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", b'{"x":"' + b"y" * (LONGEST + (1 << 25)))
    with pytest.raises(DataError, match="found a longer line"):
        open_rows(path)


def test_missing_fields_are_missing_values(tmp_path: Path) -> None:
    (chunk,) = open_rows(lines(tmp_path / "a.jsonl", '{"x":1}\n{"y":2}\n{}\n')).chunks()
    np.testing.assert_array_equal(chunk.inputs, [[1, np.nan], [np.nan, 2], [np.nan, np.nan]])


def test_many_brackets_are_not_deep(tmp_path: Path) -> None:
    row = {"x": 1, "tags": [[n] for n in range(200)], "text": '"[[{' * 200}
    rows = open_rows(lines(tmp_path / "a.jsonl", json.dumps(row) + "\n" + json.dumps(row)))
    assert rows.count == 2
