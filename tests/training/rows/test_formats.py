"""One table in every file format and as every object has the same ids, inputs and payloads."""

import bz2
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather as pa_feather
import pyarrow.parquet as pa_parquet
import pytest

from lookalike.training.config import DataConfig
from lookalike.training.rows import Rows, open_rows
from lookalike.training.tables.columns import BOOLEANS, Column

IDS = ["a", "b", "NA", "007"]
COLUMNS: dict[str, list[Any]] = {
    "id": IDS,
    "height": [0.5, -1.25, 3.0, 2.0],
    "count": [1, 2, 2**53, -4],
    "color": ["red", "grün", "red", "grün"],
    "sold": [True, False, False, True],
    "note": ["x, y", 'a "quote"', "two\nlines", "plain; text"],
}
INPUTS = [[0.5, 1, 1, 1], [-1.25, 2, 0, 0], [3, 2**53, 1, 0], [2, -4, 0, 1]]
NOTES = COLUMNS["note"]
FRAME = pd.DataFrame(COLUMNS)
POLARS = pl.DataFrame(COLUMNS)
ARROW = pa.table(COLUMNS)


def check(rows: Rows) -> None:
    """Compare rows with the table, read in chunks of 3."""
    height, count = Column("height"), Column("count")
    color, sold = Column("color", "categorical", ("grün", "red")), Column("sold", "boolean", BOOLEANS)
    assert set(rows.columns) - {Column("part")} == {height, count, color, sold}
    order = [rows.columns.index(column) for column in (height, count, color, sold)]
    chunks = list(rows.chunks(3, np.float64))
    assert [name for chunk in chunks for name in chunk.ids] == IDS
    np.testing.assert_array_equal(np.concatenate([chunk.inputs for chunk in chunks])[:, order], INPUTS)
    payloads = [payload for chunk in chunks for payload in chunk.payloads]
    assert [(payload["color"], payload["note"]) for payload in payloads] == list(
        zip(COLUMNS["color"], NOTES, strict=True)
    )


def csv_bytes(**options: Any) -> bytes:
    """The table as pandas writes it, in UTF-8."""
    text: str = FRAME.to_csv(index=False, **options)
    return text.encode()


def write_hive(path: Path) -> None:
    """A folder of Parquet files, one for each color, read in the order of the folders' names."""
    for number, row in enumerate(ARROW.to_pylist()):
        folder = path / f"part={number}" / f"color={row.pop('color')}"
        folder.mkdir(parents=True)
        pa_parquet.write_table(pa.Table.from_pylist([row]), folder / "0.parquet")
    (path / "_SUCCESS").write_text("")


def write_folder(path: Path, suffix: str, write: Callable[[pa.Table, Path], object]) -> None:
    """A folder with two files of two rows."""
    path.mkdir()
    for number in (0, 1):
        write(ARROW.slice(2 * number, 2), path / f"{number}{suffix}")


def write_excel(path: Path) -> None:
    FRAME.to_excel(path, index=False)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.csv": lambda path: path.write_bytes(csv_bytes()),
    "A.CSV": lambda path: path.write_bytes(csv_bytes(lineterminator="\r\n")),
    "polars.csv": POLARS.write_csv,
    "bom.csv": lambda path: path.write_bytes(b"\xef\xbb\xbf" + csv_bytes()),
    "utf16.csv": lambda path: path.write_bytes(csv_bytes().decode().encode("utf-16")),
    "utf32.csv": lambda path: path.write_bytes(csv_bytes().decode().encode("utf-32")),
    "utf16.tsv": lambda path: path.write_bytes(csv_bytes(sep="\t").decode().encode("utf-16")),
    "a.tsv": lambda path: path.write_bytes(csv_bytes(sep="\t")),
    "semicolon.csv": lambda path: path.write_bytes(csv_bytes(sep=";")),
    "european.csv": lambda path: path.write_bytes(csv_bytes(sep=";", decimal=",")),
    "a.txt": lambda path: path.write_bytes(csv_bytes(sep="|")),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(csv_bytes())),
    "a.gz": lambda path: path.write_bytes(gzip.compress(csv_bytes())),
    "two.CSV.GZ": lambda path: path.write_bytes(gzip.compress(csv_bytes()[:40]) + gzip.compress(csv_bytes()[40:])),
    "a.tsv.bz2": lambda path: path.write_bytes(bz2.compress(csv_bytes(sep="\t"))),
    "a.csv.zst": lambda path: path.write_bytes(pa.Codec("zstd").compress(csv_bytes(), asbytes=True)),
    "a.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "polars.ndjson": POLARS.write_ndjson,
    "a.jsonl.gz": lambda path: FRAME.to_json(path, orient="records", lines=True, compression="gzip"),
    "a.parquet": lambda path: FRAME.to_parquet(path),
    "polars.parquet": POLARS.write_parquet,
    "a.parquet.gz": lambda path: path.write_bytes(gzip.compress(parquet_bytes())),
    "a.feather": lambda path: FRAME.to_feather(path),
    "a.arrow": lambda path: pa_feather.write_feather(ARROW, path, compression="zstd"),
    "polars.arrow": POLARS.write_ipc,
    "stream.arrow": POLARS.write_ipc_stream,
    "a.xlsx": write_excel,
    "hive": write_hive,
    "folder": lambda path: write_folder(path, ".parquet", pa_parquet.write_table),
    "texts": lambda path: write_folder(path, ".csv.gz", lambda part, to: part.to_pandas().to_csv(to, index=False)),
    "arrows": lambda path: write_folder(path, ".arrow", lambda part, to: pa_feather.write_feather(part, to)),
    "lines": lambda path: write_folder(
        path, ".jsonl", lambda part, to: to.write_text("\n".join(map(json.dumps, part.to_pylist())))
    ),
}


def parquet_bytes() -> bytes:
    out = pa.BufferOutputStream()
    pa_parquet.write_table(ARROW, out)
    data: bytes = out.getvalue().to_pybytes()
    return data


@pytest.fixture
def memory() -> Iterator[Any]:
    """The files behind `memory://`, empty at the start and at the end."""
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_has_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    check(open_rows(tmp_path / name))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le"])
def test_a_named_encoding_has_the_same_rows(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(csv_bytes().decode().encode(encoding))
    check(open_rows(tmp_path / "a.csv", DataConfig(encoding=encoding)))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.parquet.gz", "a.xlsx", "a.jsonl"])
def test_a_url_has_the_same_rows(tmp_path: Path, memory: Any, name: str) -> None:
    WRITERS[name](tmp_path / name)
    memory.pipe(f"/data/{name}", (tmp_path / name).read_bytes())
    rows = open_rows(f"memory://data/{name}")
    assert rows.name == f"memory://data/{name}"
    check(rows)
    check(open_rows((tmp_path / name).as_uri()))


def test_a_url_of_a_folder_has_the_same_rows(tmp_path: Path, memory: Any) -> None:
    WRITERS["hive"](tmp_path / "hive")
    memory.put(str(tmp_path / "hive"), "/data/", recursive=True)
    check(open_rows("memory://data/hive"))


@pytest.mark.parametrize(
    "source",
    [
        FRAME,
        FRAME.convert_dtypes(),
        FRAME.convert_dtypes(dtype_backend="pyarrow"),
        FRAME.astype({"color": "category"}),
        FRAME.astype({"note": object, "id": object}),
        POLARS,
        POLARS.with_columns(pl.col("color").cast(pl.Categorical)),
        POLARS.with_columns(pl.col("color").cast(pl.Enum(["red", "grün"]))),
        ARROW,
        ARROW.combine_chunks().to_batches()[0],
        datasets.Dataset.from_dict(COLUMNS),
        datasets.Dataset.from_dict({name: values[::-1] for name, values in COLUMNS.items()}).select([3, 2, 1, 0]),
    ],
)
def test_every_object_has_the_same_rows(source: Any) -> None:
    rows = open_rows(source)
    assert rows.name == type(source).__name__
    check(rows)
