from pathlib import Path

import pyarrow as pa
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from tests.factories import read_all


def arrow(path: Path, table: pa.Table, *, stream: bool = False) -> Path:
    """A file of record batches of two rows."""
    write = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, write(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_reads_the_file_format_and_the_stream_format(tmp_path: Path, size: int, stream: bool) -> None:
    path = arrow(tmp_path / "a.arrow", pa.table({"x": [1, 2, 3, 4, 5], "id": list("abcde")}), stream=stream)
    chunk = read_all(path, size=size)
    assert (chunk.ids, chunk.inputs.tolist()) == (list("abcde"), [[1], [2], [3], [4], [5]])


@pytest.mark.parametrize("stream", [False, True])
def test_a_damaged_file_is_refused_or_read(tmp_path: Path, stream: bool) -> None:
    table = pa.table({"x": [1, 2, 3], "c": ["u", "long text", "v"], "l": [[1], [], [2, 3]]})
    contents = arrow(tmp_path / "a.arrow", table, stream=stream).read_bytes()
    for position in range(0, len(contents), 7):
        damaged = bytearray(contents)
        damaged[position] ^= 0xFF
        (tmp_path / "b.arrow").write_bytes(damaged)
        try:
            list(open_rows(tmp_path / "b.arrow").chunks())
        except DataError as error:
            assert "b.arrow" in error.field  # noqa: PT017


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (b"", "expected a readable arrow file"),
        (b"ARROW1", "expected a readable arrow file"),
        (b"x,y\n1,2\n", "expected a readable arrow file"),
        (b"FEA1 and more", "expected Feather version 2, found Feather version 1"),
    ],
)
def test_refuses_other_contents(tmp_path: Path, contents: bytes, expected: str) -> None:
    (tmp_path / "a.arrow").write_bytes(contents)
    with pytest.raises(DataError) as caught:
        open_rows(tmp_path / "a.arrow")
    assert expected in str(caught.value)
