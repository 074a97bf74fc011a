import gc
import gzip
import shutil
import sys
import tempfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import InputSpec

CSV = b"x,c\n1,u\n2,u\n3,v\n4,v\n"


@pytest.fixture
def memory() -> Iterator[Any]:
    """The files behind `memory://`, empty at the start and at the end."""
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_copy_exists_as_long_as_its_rows(memory: Any, copies: Path) -> None:
    memory.pipe("/a.csv", CSV)
    rows = open_rows("memory://a.csv")
    other = rows.with_settings(DataConfig(categories=0))
    assert len(list(copies.iterdir())) == 1
    del rows
    gc.collect()
    assert (other.name, [column.name for column in other.columns]) == ("memory://a.csv", ["x"])
    assert next(other.chunks()).inputs.tolist() == [[1], [2], [3], [4]]
    del other
    gc.collect()
    assert list(copies.iterdir()) == []


def test_no_copy_remains_after_an_error(tmp_path: Path, memory: Any, copies: Path) -> None:
    memory.pipe("/a.csv", b"x\n1\n2\n3\noops\n")
    (tmp_path / "a.npy.gz").write_bytes(gzip.compress(b"\x93NUMPY" + bytes(100))[:-3])
    for name in ("memory://a.csv", str(tmp_path / "a.npy.gz"), "memory://b.csv"):
        with pytest.raises(DataError) as caught:
            open_rows(name)
        assert caught.value.field.startswith(name)
        del caught
    gc.collect()
    assert list(copies.iterdir()) == []


def test_errors_name_the_original(memory: Any) -> None:
    memory.pipe("/a.csv", b"x\n1\ninf\n")
    rows = open_rows("memory://a.csv")
    with pytest.raises(DataError, match=r"^memory://a\.csv, row 1, column x: expected a finite number"):
        list(rows.chunks())
    with pytest.raises(DataError, match=r"^memory://a\.csv, column y: expected the column"):
        rows.suited(InputSpec((Column("y"),)))
    memory.pipe("/f/k=1/a.csv", b"x\n1\n2\noops\n")
    with pytest.raises(DataError, match=r"^memory://f/k=1/a\.csv, row 2, column x"):
        open_rows("memory://f")


def test_errors_of_ids_and_payloads_name_the_original(tmp_path: Path, memory: Any) -> None:
    table = pa.table({"x": [1.0, 2.0], "bytes": [[b"text"], [b"\xff"]], "id": ["a", "b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    memory.pipe("/a.parquet", (tmp_path / "a.parquet").read_bytes())
    rows = open_rows("memory://a.parquet")
    with pytest.raises(DataError, match=r"^memory://a\.parquet, row 1, column bytes: expected text"):
        list(next(rows.chunks()).payloads)
    pq.write_table(pa.table({"x": [1.0, 2.0], "id": ["a", None]}), tmp_path / "a.parquet")
    memory.pipe("/a.parquet", (tmp_path / "a.parquet").read_bytes())
    rows = open_rows("memory://a.parquet")
    assert rows.ids is not None
    with pytest.raises(DataError, match=r"^memory://a\.parquet, row 1, column id"):
        list(rows.ids())


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_arrays_behind_a_url(tmp_path: Path, memory: Any, name: str) -> None:
    values = np.arange(6).reshape(3, 2)
    np.save(tmp_path / name, values) if name == "a.npy" else np.savez(tmp_path / name, values)
    memory.pipe(f"/{name}", (tmp_path / name).read_bytes())
    assert next(open_rows(f"memory://{name}").chunks()).inputs.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://absent.csv", "memory://absent.csv: expected a file, or a folder with files, found no file"),
        ("nothing://a.csv", "nothing://a.csv: expected a readable URL, found Protocol not known: nothing"),
        ("s3://bucket/a.csv", "s3://bucket/a.csv: expected a package for the URL's protocol, found Install s3fs"),
        ("memory://a.doc", "memory://a.doc: expected digits, "),
    ],
)
def test_refuses_a_url_that_cannot_be_read(memory: Any, url: str, expected: str) -> None:
    memory.pipe("/a.doc", b"x")
    with pytest.raises(DataError) as caught:
        open_rows(url)
    assert expected in str(caught.value)


def test_refuses_a_copy_that_does_not_fit(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/a.csv", CSV)
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(100, 90, 10))
    with pytest.raises(DataError, match=r"expected 20 free bytes for a copy, found 10 free bytes in .*TMPDIR"):
        open_rows("memory://a.csv")


def test_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DataError, match=r"pip install 'lookalike\[remote\]'"):
        open_rows("memory://a.csv")
