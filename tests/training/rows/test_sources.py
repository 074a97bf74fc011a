import gzip
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from PIL import Image

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import InputSpec

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


@pytest.mark.parametrize("name", ["digits:validation", "digit", "rows.txt", "rows", "", "a.npy:test"])
def test_refuses_an_unknown_name_and_lists_the_known_names(name: str) -> None:
    with pytest.raises(DataError, match=r"digits, fashion-mnist, \*\.npy, .*a folder of images"):
        open_rows(name)


@pytest.mark.parametrize("suffix", ["npy", "npz", "gz", "parquet", "csv"])
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


@pytest.mark.parametrize("name", ["a.csv.gz", "A.CSV.GZ", "a.parquet.gz"])
def test_refuses_a_compressed_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"x\n3\n"))
    with pytest.raises(DataError, match=r"expected a \.(csv|parquet) file that is not compressed, .* Run gunzip on it"):
        open_rows(str(tmp_path / name))


def test_names_an_unknown_extension(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\n3\n")
    with pytest.raises(DataError, match=r"a\.tsv: expected .*\*\.csv.*, found the file name extension \.tsv"):
        open_rows(str(tmp_path / "a.tsv"))
