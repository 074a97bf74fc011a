from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import Rows, open_rows
from lookalike.training.tables.columns import Column
from tests.factories import read_all

NAN = float("nan")


def folder_of(folder: Path, tables: dict[str, dict[str, Sequence[Any]]], suffix: str = ".parquet") -> Path:
    """A folder with a file for each table, in the format of the suffix."""
    for name, columns in tables.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(dict(columns))
        (pa_parquet.write_table if suffix == ".parquet" else pa_csv.write_csv)(table, path)
    return folder


def of(rows: Rows) -> dict[str, list[Any]]:
    """The inputs by column, in all rows."""
    inputs = np.concatenate([chunk.inputs for chunk in rows.chunks(1)])
    return {column.name: inputs[:, number].tolist() for number, column in enumerate(rows.columns)}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_column_that_only_some_files_have_is_missing_in_the_others(tmp_path: Path, suffix: str) -> None:
    rows = open_rows(folder_of(tmp_path / "f", {"b": {"x": [3], "z": [4]}, "a": {"x": [1, 2]}}, suffix))
    np.testing.assert_equal(of(rows), {"x": [1, 2, 3], "z": [NAN, NAN, 4]})
    assert [name for chunk in rows.chunks() for name in chunk.ids] == ["0", "1", "2"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_numbers_of_different_types_become_the_wider_type(tmp_path: Path, suffix: str) -> None:
    assert of(open_rows(folder_of(tmp_path / "f", {"a": {"x": [1]}, "b": {"x": [0.5]}}, suffix))) == {"x": [1, 0.5]}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_names_of_folders_are_columns(tmp_path: Path, suffix: str) -> None:
    names = {"year=2023/city=a%2Fb/1": 1, "year=2024/city=a%2Fb/1": 2, "year=2024/city=__HIVE_DEFAULT_PARTITION__/1": 3}
    rows = open_rows(folder_of(tmp_path / "f", {name: {"x": [x, x]} for name, x in names.items()}, suffix))
    assert rows.columns == (Column("x"), Column("year"), Column("city", "categorical", ("a/b",)))
    np.testing.assert_equal(
        of(rows)["year"] + of(rows)["city"], [2023, 2023, 2024, 2024, 2024, 2024, 0, 0, NAN, NAN, 0, 0]
    )


@pytest.mark.parametrize("value", ["007", "1e3", "x", "1" * 30])
def test_the_name_of_a_folder_that_is_no_integer_is_text(tmp_path: Path, value: str) -> None:
    rows = open_rows(folder_of(tmp_path / "f", {f"k={value}/1": {"x": [1, 2]}, "k=1/1": {"x": [3, 4]}}))
    assert Column("k", "categorical", tuple(sorted(["1", value]))) in rows.columns


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_refuses_a_column_of_the_file_and_its_folders(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=r"k=1/a\.\w+: expected each column once, found \['k'\] in the file and in"):
        open_rows(folder_of(tmp_path / "f", {"k=1/a": {"x": [1], "k": [1]}}, suffix))


def test_names_the_file_whose_columns_do_not_fit(tmp_path: Path) -> None:
    tables: dict[str, dict[str, Sequence[Any]]] = {"a": {"x": [1]}, "b": {"x": [2]}, "c": {"x": ["three"]}}
    with pytest.raises(DataError, match=r"f/c\.parquet: expected columns of the same types as in the files before it"):
        open_rows(folder_of(tmp_path / "f", tables))


def test_names_the_file_that_is_damaged(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", {"a": {"x": [1]}})
    (folder / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"f/b\.parquet: expected a readable parquet file"):
        open_rows(folder)


def test_names_the_file_and_the_row_of_a_bad_cell(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", {"a": {"x": [1, 2]}, "b": {"x": ["3", "oops"]}}, ".csv")
    with pytest.raises(DataError, match=r"f/b\.csv, row 1, column x: expected a number.* found 'oops'"):
        open_rows(folder)


def test_opens_a_folder_for_an_encoder(tmp_path: Path) -> None:
    one: dict[str, Sequence[Any]] = {"x": [1, 2], "c": ["u", "u"]}
    two: dict[str, Sequence[Any]] = {"x": [3, 4], "c": ["v", "v"]}
    folder = folder_of(tmp_path / "f", {"k=1/a": one, "k=2/a": two})
    rows = open_rows(folder)
    assert [column.name for column in rows.columns] == ["x", "c", "k"]
    assert [column.name for column in rows.with_settings(DataConfig(categories=0)).columns] == ["x", "k"]
    assert read_all(folder).inputs.tolist() == [[1, 0, 1], [2, 0, 1], [3, 1, 2], [4, 1, 2]]


def test_views_are_values(tmp_path: Path) -> None:
    kinds = {"c": pa.string_view(), "s": pa.struct([("v", pa.list_(pa.string_view()))]), "b": pa.binary_view()}
    values = {"c": ["u", "u"], "s": [{"v": ["a"]}, None], "b": [b"x", b"y"]}
    columns = {name: pa.array(values[name], kind) for name, kind in kinds.items()}
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, pa.table(columns).schema) as writer:
        writer.write_table(pa.table(columns))
    (chunk,) = open_rows(tmp_path / "a.arrow").chunks()
    assert chunk.payloads == [{"c": "u", "s": {"v": ["a"]}, "b": "x"}, {"c": "u", "s": None, "b": "y"}]
