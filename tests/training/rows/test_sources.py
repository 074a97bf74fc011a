import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from PIL import Image

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.rows.sources import check_reopens
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import InputSpec


def zstd(data: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return compressed


ONE = np.array([[3]], np.uint8)


def written(path: Path) -> Path:
    """Write one row of one column, the number 3, in the format of the extension."""
    if path.suffix == "":
        path.mkdir()
        Image.fromarray(ONE).save(path / "a.png")
    elif path.suffix == ".npy":
        np.save(path, ONE)
    elif path.suffix == ".npz":
        np.savez(path, ONE)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(struct.pack(">HBBIIB", 0, 8, 2, 1, 1, 3)))
    elif path.suffix.lower() == ".parquet":
        pa_parquet.write_table(pa.table({"x": [3]}), path)
    else:
        path.write_text("x\n3\n")
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.gz", "a.parquet", "a.csv", "A.CSV", "a.Parquet", "folder"])
def test_opens_a_path_by_its_extension_or_as_a_folder_of_images(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    rows = open_rows(str(path))
    assert (rows.name, rows.count, rows.width) == (str(path), 1, 1)
    assert [chunk.inputs.tolist() for chunk in rows.chunks()] == [[[3.0]]]


@pytest.mark.parametrize(("name", "opened"), [("digits", "digits"), ("digits:train", "digits")])
def test_a_built_in_set_defaults_to_its_training_part(name: str, opened: str) -> None:
    assert open_rows(name).name == opened


@pytest.mark.parametrize("name", ["digits:validation", "digit", "rows.doc", "rows", "", "a.npy:test"])
def test_refuses_an_unknown_name_and_lists_the_known_names(name: str) -> None:
    with pytest.raises(DataError, match=r"digits, fashion-mnist, \*\.npy, .*a folder of images, tables or recordings"):
        open_rows(name)


@pytest.mark.parametrize("suffix", ["npy", "npz", "gz", "parquet", "csv", "txt", "jsonl.zst", "xlsx", "jpg"])
def test_names_a_missing_file(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=rf"absent\.{suffix}: expected a file, found no file"):
        open_rows(str(tmp_path / f"absent.{suffix}"))


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_opens_a_table_for_an_encoders_columns(tmp_path: Path, name: str) -> None:
    path = str(written(tmp_path / name))
    assert open_rows(path, spec=InputSpec((Column("x"),))).columns == (Column("x"),)
    with pytest.raises(DataError, match="column y"):
        open_rows(path, spec=InputSpec((Column("y"),)))
    rows = open_rows(path)
    assert rows.suited(InputSpec((Column("x"),))) is rows
    with pytest.raises(DataError, match="column y"):
        rows.suited(InputSpec((Column("y"),)))


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.gz", "folder"])
def test_ignores_columns_for_rows_that_are_not_a_table(tmp_path: Path, name: str) -> None:
    rows = open_rows(str(written(tmp_path / name)), spec=InputSpec((Column("x"),)))
    assert (rows.columns, rows.gaps) == ((), False)


def test_limits_the_number_of_categories(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,kind\n" + "1,a\n2,b\n" * 3)
    rows = open_rows(str(path), DataConfig(categories=1))
    assert len(rows.columns) == 1
    assert [column.name for column in rows.with_settings(DataConfig(categories=2)).columns] == ["x", "kind"]


def test_names_an_unknown_extension(tmp_path: Path) -> None:
    (tmp_path / "a.doc").write_text("x\n3\n")
    with pytest.raises(DataError, match=r"a\.doc: expected .*\*\.csv.*, found the file name extension \.doc. Save"):
        open_rows(tmp_path / "a.doc")


def test_opens_a_path_object(tmp_path: Path) -> None:
    assert open_rows(written(tmp_path / "a.csv")).count == 1


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("a.csv", "parquet", "a .csv file, according to its name, found the contents of Parquet. Rename the file"),
        ("a.parquet", "npy", "a .parquet file, according to its name, found the contents of an .npy array"),
        ("a.npz", "npy", "a .npz file, according to its name, found the contents of an .npy array"),
        ("a.csv", "npz", "found the contents of a zip archive"),
        ("a.jsonl", "gz", "found the contents of an idx file"),
    ],
)
def test_names_contents_that_contradict_the_name(tmp_path: Path, name: str, contents: str, expected: str) -> None:
    written(tmp_path / f"b.{contents}").rename(tmp_path / name)
    with pytest.raises(DataError) as caught:
        open_rows(tmp_path / name)
    assert expected in str(caught.value)


@pytest.mark.parametrize(("name", "inner"), [("a.npy.gz", "a.npy"), ("b.gz", "b.npz"), ("a.parquet.gz", "a.parquet")])
def test_reads_a_compressed_file_by_its_contents(tmp_path: Path, name: str, inner: str) -> None:
    contents = written(tmp_path / inner).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(contents))
    rows = open_rows(tmp_path / name)
    assert (rows.name, rows.count) == (str(tmp_path / name), 1)
    assert [chunk.inputs.tolist() for chunk in rows.chunks()] == [[[3.0]]]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.gz", "a.npy.gz", "a.csv.bz2", "a.jsonl.zst"])
def test_names_a_damaged_compressed_file(tmp_path: Path, name: str) -> None:
    text = b"x\n3\n" * 100
    contents = {"gz": gzip.compress(text), "bz2": bz2.compress(text), "zst": zstd(text)}[name.rpartition(".")[2]]
    (tmp_path / name).write_bytes(contents[:-5])
    with pytest.raises(DataError, match=rf"{name}: expected an intact file.*, found .*"):
        open_rows(tmp_path / name)


def test_opens_a_sheet_by_its_name(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for name, value in (("first", 1), ("second # 2", 2)):
        sheet = book.create_sheet(name)
        sheet.append(["x"])
        sheet.append([value])
    del book["Sheet"]
    book.save(tmp_path / "a.xlsx")
    rows = [open_rows(f"{tmp_path}/a.xlsx{part}") for part in ("", "#first", "#second # 2")]
    assert [next(one.chunks()).inputs.tolist() for one in rows] == [[[1.0]], [[1.0]], [[2.0]]]
    assert rows[1].name == f"{tmp_path}/a.xlsx#first"
    with pytest.raises(DataError, match=r"expected one of the sheets first, second # 2, found 'third'"):
        open_rows(f"{tmp_path}/a.xlsx#third")


def test_a_recorded_name_must_still_be_there(tmp_path: Path) -> None:
    for name in ("digits", "fashion-mnist:test", "s3://bucket/a.csv", str(written(tmp_path / "a.csv"))):
        check_reopens(name, "Do it.")
    with pytest.raises(DataError, match=r"DataFrame: expected the file or folder .*, found no file .*\. Do it\."):
        check_reopens("DataFrame", "Do it.")


@pytest.mark.parametrize(
    "source", ["digits", np.ones((3, 2)), pa.table({"x": [1.0, 2.0]})], ids=["digits", "array", "table"]
)
def test_a_window_is_refused_for_rows_that_are_no_recordings(source: object) -> None:
    with pytest.raises(
        DataError, match=r"expected windows of recordings, because of data\.window, found rows of shape"
    ):
        open_rows(source, DataConfig(window=8))
    with pytest.raises(DataError, match=r"Leave out data\.hop, data\.rate, or cut recordings into windows with"):
        open_rows(source, DataConfig(hop=8, rate=5.0))
    rows = open_rows(source)
    with pytest.raises(DataError, match="expected windows of recordings"):
        rows.with_settings(DataConfig(window=8))


def test_the_settings_of_recordings_need_a_window(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,x\n" + "".join(f"{i},{i * i}\n" for i in range(20)), encoding="utf-8")
    with pytest.raises(DataError, match=r"because of data\.time, found rows of shape \(2,\)"):
        open_rows(path, DataConfig(time="t"))
    rows = open_rows(path, DataConfig(window=4, time="t"))
    assert rows.with_settings(DataConfig(window=4, time="t")) is rows
    assert open_rows(path, DataConfig(window=4, time="t"), InputSpec((Column("x"),))).shape == (1,)
