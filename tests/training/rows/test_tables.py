import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest

from tests.training.helpers import flip_bit, read_all
from training.errors import DataError
from training.rows import open_rows

TABLE = {
    "id": ["a", "b", "c"],
    "height": [1.5, 2.5, -3.0],
    "colour": ["red", "green", "blue"],
    "label": ["x", "y", "x"],
    "count": [7, 8, 9],
    "good": [True, False, True],
}


def parquet(path: Path, **columns: Any) -> Path:
    pa_parquet.write_table(pa.table(columns), path)
    return path


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_all(path)
    assert str(path) in caught.value.field
    return str(caught.value)


def test_numbers_are_inputs_and_the_rest_travels_in_the_payload_in_csv_as_in_parquet(tmp_path: Path) -> None:
    pa_csv.write_csv(pa.table(TABLE), tmp_path / "a.csv")
    for path in (tmp_path / "a.csv", parquet(tmp_path / "a.parquet", **TABLE)):
        rows, chunk = open_rows(str(path)), read_all(path, size=2)
        assert (rows.columns, rows.shape, rows.count, rows.pixels) == (("height", "count", "good"), (3,), 3, False)
        assert chunk.inputs.tolist() == [[1.5, 7, 1], [2.5, 8, 0], [-3, 9, 1]]
        assert chunk.inputs.dtype == np.float32
        assert chunk.ids == ["a", "b", "c"]
        assert chunk.payloads[1] == {"colour": "green", "label": "y"}


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", "x\n5\n6\n7\n"), size=2)
    assert (chunk.ids, chunk.payloads) == (["0", "1", "2"], [{}, {}, {}])


def test_ids_and_labels_of_a_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", "id,x,label\n007,1,01\n08,2,1\n"))
    assert chunk.ids == ["007", "08"]
    assert [payload["label"] for payload in chunk.payloads] == ["01", "1"]
    assert chunk.inputs.tolist() == [[1], [2]]


def test_a_missing_label_is_none(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", "x,label\n1,a\n2,\n"))
    assert [payload["label"] for payload in chunk.payloads] == ["a", None]


@pytest.mark.parametrize("cell", ["", "NaN", "n/a", "inf", "1e39"])
def test_a_cell_that_is_no_finite_number_is_named_by_row_and_column(tmp_path: Path, cell: str) -> None:
    path = csv(tmp_path / "a.csv", f"id,x,y\na,1,2\nb,3,{cell}\nc,5,6\n")
    assert "row 1, column y: expected a finite number" in refused(path)


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), 1e39])
def test_a_parquet_cell_that_is_no_finite_number_is_named_by_row_and_column(tmp_path: Path, bad: Any) -> None:
    path = parquet(tmp_path / "a.parquet", x=[1.0, 2.0, 3.0], y=[1.0, 2.0, bad])
    assert "row 2, column y: expected a finite number" in refused(path)


@pytest.mark.parametrize("row", [2, 300_000])
def test_a_word_in_a_column_of_numbers_is_named_and_does_not_make_the_column_text(tmp_path: Path, row: int) -> None:
    lines = ["1,2"] * (row + 3)
    lines[row] = "3,oops"
    told = refused(csv(tmp_path / "a.csv", "x,y\n" + "\n".join(lines) + "\n"))
    assert f"a.csv, row {row}, column y: " in told
    assert "'oops'" in told


@pytest.mark.parametrize("row", [1, 300_000])
def test_a_line_with_other_than_the_headers_columns_is_named(tmp_path: Path, row: int) -> None:
    lines = ["1,2"] * (row + 3)
    lines[row] = "3"
    assert f"a.csv, row {row}: " in refused(csv(tmp_path / "a.csv", "x,y\n" + "\n".join(lines) + "\n"))


def test_a_fraction_far_down_a_column_of_integers_is_kept(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "x\n" + "1\n" * 600_000 + "2.5\n")
    *_, last = open_rows(str(path)).chunks()
    assert last.inputs[-1].tolist() == [2.5]
    assert open_rows(str(path)).count == 600_001


def test_a_column_of_codes_stays_text_though_some_are_numbers(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", "x,code\n1,A1\n2,12\n3,B7\n"))
    assert chunk.inputs.tolist() == [[1], [2], [3]]
    assert [payload["code"] for payload in chunk.payloads] == ["A1", "12", "B7"]


def test_every_kind_of_number_in_parquet_is_an_input(tmp_path: Path) -> None:
    columns = {
        "small": pa.array([1, -2], pa.int8()),
        "large": pa.array([2**60 + 1, 3], pa.int64()),
        "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
        "half": pa.array(np.array([0.5, 1], np.float16)),
        "exact": pa.array([decimal.Decimal("1.25"), decimal.Decimal("2")]),
    }
    chunk = read_all(parquet(tmp_path / "a.parquet", **columns))
    expected = [[1.0, 2.0**60, 2.0**64, 0.5, 1.25], [-2.0, 3.0, 0.0, 1.0, 2.0]]
    np.testing.assert_allclose(chunk.inputs, np.array(expected))


def test_times_travel_as_text_and_nan_as_missing(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", x=[1.0], day=[datetime.date(2020, 1, 2)], label=[float("nan")])
    assert read_all(path).payloads == [{"day": "2020-01-02", "label": None}]
    fine = pa.array([1_577_923_200_000_000_001], pa.timestamp("ns"))  # finer than Python's own times
    pa_parquet.write_table(pa.table({"x": [1.0], "at": fine}), path)
    assert read_all(path).payloads == [{"at": "2020-01-02 00:00:00.000000001"}]


def test_a_payload_column_may_begin_empty_or_like_dates(tmp_path: Path) -> None:
    lines = ["x,note,day", *(["1,,2020-01-02"] * 150_000), "1,hello,unknown"]
    path = csv(tmp_path / "a.csv", "\n".join(lines) + "\n")
    assert read_all(path).payloads[-1] == {"note": "hello", "day": "unknown"}


def test_ids_of_a_parquet_become_strings(tmp_path: Path) -> None:
    assert read_all(parquet(tmp_path / "a.parquet", id=[10, 11], x=[1.0, 2.0])).ids == ["10", "11"]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_missing_id_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    table = {"id": ["a", "b", None], "x": [1, 2, 3]}
    (parquet(path, **table) if name == "a.parquet" else csv(path, "id,x\na,1\nb,2\n,3\n"))
    assert "row 2, column id: expected an id" in refused(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "Empty CSV file"),
        ("x,y\n", "columns ['x', 'y']"),
        ("name\nann\nbob\n", "columns ['name']"),
        ("x,x\n1,2\n", "columns"),
    ],
)
def test_a_csv_without_columns_of_numbers_is_refused(tmp_path: Path, text: str, found: str) -> None:
    assert found.removeprefix("columns") in refused(csv(tmp_path / "a.csv", text))


def test_text_that_is_not_utf_8_is_named_by_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,name\n1,ann\n2,\xff\xfe\n")
    assert "row 1, column name: " in refused(path)


def test_columns_of_one_name_are_refused_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pa_parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), path)
    assert "expected column names that differ" in refused(path)


@pytest.mark.parametrize("keep", [0, 3, 50, -1])
def test_a_parquet_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = parquet(tmp_path / "a.parquet", x=np.arange(100.0))
    path.write_bytes(path.read_bytes()[:keep])
    assert "expected a readable parquet file" in refused(path)


def test_damage_to_a_parquets_values_is_refused_or_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pa_parquet.write_table(pa.table({"x": np.arange(1000.0)}), path, compression="gzip", use_dictionary=False)
    flip_bit(path, 8 * 200)
    refused(path)
