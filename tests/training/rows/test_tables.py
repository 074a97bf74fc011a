import datetime
import decimal
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.rows.tables import MAX_COLUMNS, MOST_IN_PAYLOAD, check_names
from lookalike.training.tables.columns import BOOLEANS, Column
from lookalike.training.transforms import InputSpec
from tests.factories import read_all
from tests.training.helpers import flip_bit

NAN = float("nan")
TABLE = {
    "id": ["a", "b", "c"],
    "height": [1.5, 2.5, -3.0],
    "color": ["red", "green", "blue"],
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


def test_numbers_are_input_and_other_columns_are_payload(tmp_path: Path) -> None:
    pa_csv.write_csv(pa.table(TABLE), tmp_path / "a.csv")
    for path in (tmp_path / "a.csv", parquet(tmp_path / "a.parquet", **TABLE)):
        rows, chunk = open_rows(str(path)), read_all(path, size=2)
        assert rows.columns == (Column("height"), Column("count"), Column("good", "boolean", BOOLEANS))
        assert (rows.shape, rows.count, rows.pixels) == ((3,), 3, False)
        assert chunk.inputs.tolist() == [[1.5, 7, 1], [2.5, 8, 0], [-3, 9, 1]]
        assert chunk.inputs.dtype == np.float32
        assert chunk.ids == ["a", "b", "c"]
        assert chunk.payloads[1] == {"height": 2.5, "color": "green", "label": "y", "count": 8, "good": False}
        assert [type(value) for value in chunk.payloads[1].values()] == [float, str, str, int, bool]


def test_a_wide_table_has_no_input_in_the_payload(tmp_path: Path) -> None:
    columns = {f"x{number}": [1.5, 2.5] for number in range(MOST_IN_PAYLOAD - 1)}
    path = parquet(tmp_path / "a.parquet", **columns, label=["a", "b"])
    assert len(read_all(path).payloads[0]) == MOST_IN_PAYLOAD
    path = parquet(tmp_path / "a.parquet", **columns, more=[1.5, 2.5], label=["a", "b"])
    assert read_all(path).payloads == [{"label": "a"}, {"label": "b"}]
    assert "more than 256 columns" in open_rows(str(path)).notes[0]


def test_other_columns_may_be_the_ids_and_labels(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", name=["a", "b"], x=[1.5, 2.5], kind=["u", "v"], id=[3, 4])
    settings = DataConfig(id="name", label="kind")
    rows = open_rows(str(path), settings)
    (chunk,) = rows.chunks()
    assert (chunk.ids, chunk.labels()) == (["a", "b"], ["u", "v"])
    assert chunk.payloads[0] == {"x": 1.5, "kind": "u", "id": 3, "label": "u"}
    assert [column.name for column in rows.columns] == ["x", "id"]
    assert rows.ids is not None
    assert list(rows.ids()) == [["a", "b"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DataConfig(id="nam"), r"data\.id: expected a column of .*: name, x, label, found 'nam'"),
        (DataConfig(label="kind"), r"data\.label: expected a column of .*, found 'kind'"),
        (DataConfig(label="name"), "expected the labels in 'name' only, found a column label"),
    ],
)
def test_refuses_unknown_columns_of_ids_and_labels(tmp_path: Path, settings: DataConfig, message: str) -> None:
    path = parquet(tmp_path / "a.parquet", name=["a", "b"], x=[1.5, 2.5], label=["u", "v"])
    with pytest.raises(DataError, match=message):
        open_rows(str(path), settings)


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", "x\n5\n6\n7\n"), size=2)
    assert (chunk.ids, chunk.payloads) == (["0", "1", "2"], [{"x": 5}, {"x": 6}, {"x": 7}])


def test_keeps_ids_and_labels_of_a_csv_as_written(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", "id,x,label\n007,1,01\n08,2,1\n"))
    assert chunk.ids == ["007", "08"]
    assert [payload["label"] for payload in chunk.payloads] == ["01", "1"]
    assert chunk.inputs.tolist() == [[1], [2]]


def test_a_missing_label_is_none(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", "x,label\n1,a\n2,\n"))
    assert [payload["label"] for payload in chunk.payloads] == ["a", None]


@pytest.mark.parametrize("cell", ["inf", "-inf", "1e39"])
def test_names_row_and_column_of_an_infinite_csv_cell(tmp_path: Path, cell: str) -> None:
    path = csv(tmp_path / "a.csv", f"id,x,y\na,1,2\nb,3,{cell}\nc,5,6\n")
    assert "row 1, column y: expected a finite number" in refused(path)


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), 1e39])
def test_names_row_and_column_of_an_infinite_parquet_value(tmp_path: Path, bad: Any) -> None:
    path = parquet(tmp_path / "a.parquet", x=[1.0, 2.0, 3.0], y=[1.0, 2.0, bad])
    assert "row 2, column y: expected a finite number" in refused(path)


@pytest.mark.parametrize("cell", ["", "NaN", "n/a"])
def test_an_empty_cell_is_missing(tmp_path: Path, cell: str) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", f"x,y\n1,2\n3,{cell}\n5,6\n"))
    np.testing.assert_array_equal(chunk.inputs, [[1, 2], [3, NAN], [5, 6]])


@pytest.mark.parametrize("gap", [None, NAN])
def test_a_null_of_a_parquet_is_missing(tmp_path: Path, gap: Any) -> None:
    chunk = read_all(parquet(tmp_path / "a.parquet", x=[1.0, gap], good=[None, True]))
    np.testing.assert_array_equal(chunk.inputs, [[1, NAN], [NAN, 1]])


COLORS: dict[str, list[Any]] = {
    "x": [1, 2, 3, 4],
    "color": ["red", "blue", None, "red"],
    "name": ["ann", "bob", "cid", "dan"],
}


def both(folder: Path, **columns: Any) -> list[Path]:
    """The same table as CSV and as Parquet."""
    pa_csv.write_csv(pa.table(columns), folder / "a.csv")
    return [folder / "a.csv", parquet(folder / "a.parquet", **columns)]


def test_text_with_few_values_is_input_and_payload(tmp_path: Path) -> None:
    for path in both(tmp_path, **COLORS):
        rows, chunk = open_rows(str(path)), read_all(path)
        assert rows.columns == (Column("x"),)  # two distinct values in three rows: nearly unique
        assert chunk.payloads[2] == {"x": 3, "color": None, "name": "cid"}
    twice = {name: values * 2 for name, values in COLORS.items()} | {"name": [f"{i}" for i in "abcdefgh"]}
    for path in both(tmp_path, **twice):
        rows, chunk = open_rows(str(path)), read_all(path, size=3)
        assert rows.columns == (Column("x"), Column("color", "categorical", ("blue", "red")))
        np.testing.assert_array_equal(chunk.inputs[:4], [[1, 1], [2, 0], [3, NAN], [4, 1]])
        assert chunk.payloads[1] == {"x": 2, "color": "blue", "name": "b"}


def test_text_with_more_values_than_the_limit_is_not_a_category(tmp_path: Path) -> None:
    for path in both(tmp_path, x=[1, 2, 3, 4] * 2, kind=["a", "b", "c", "b"] * 2):
        assert [len(open_rows(str(path), DataConfig(categories=most)).columns) for most in (0, 2, 3, 4)] == [1, 1, 2, 2]


def test_ids_and_labels_are_never_input(tmp_path: Path) -> None:
    for path in both(tmp_path, id=[f"{i}" for i in range(4)], label=["a", "a", "b", "b"], x=[1, 2, 3, 4]):
        assert open_rows(str(path)).columns == (Column("x"),)


def test_a_table_may_have_only_categories(tmp_path: Path) -> None:
    for path in both(tmp_path, kind=["a", "a", "b", "b"]):
        assert read_all(path).inputs.tolist() == [[0], [0], [1], [1]]


def test_dates_are_times_and_not_categories(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "x,day\n" + "1,2020-01-02\n" * 9)
    assert open_rows(str(path)).columns == (Column("x"), Column("day.age", "numeric", (), "day", "age"))
    assert read_all(path).payloads[0] == {"x": 1, "day": "2020-01-02"}


ENCODER_COLUMNS = (Column("good", "boolean", BOOLEANS), Column("color", "categorical", ("blue", "red")), Column("x"))


def test_matches_an_encoders_columns_by_name_and_uses_its_codes(tmp_path: Path) -> None:
    given = {
        "x": [1.5, None],
        "more": [7, 8],
        "color": ["red", "green"],
        "good": [True, None],
        "label": ["a", "b"],
    }
    for path in both(tmp_path, **given):
        rows = open_rows(str(path), spec=InputSpec(ENCODER_COLUMNS))
        (chunk,) = rows.chunks()
        assert (rows.columns, rows.shape) == (ENCODER_COLUMNS, (3,))
        np.testing.assert_array_equal(chunk.inputs, [[1, 1, 1.5], [NAN, NAN, NAN]])
        assert chunk.payloads[1] == {"x": None, "more": 8, "color": "green", "good": None, "label": "b"}


def test_an_encoders_text_column_may_look_numeric(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "code,x\n7,1\n007,2\n")
    columns = (Column("code", "categorical", ("007", "A1")), Column("x"))
    (chunk,) = open_rows(str(path), spec=InputSpec(columns)).chunks()
    np.testing.assert_array_equal(chunk.inputs, [[NAN, 1], [0, 2]])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_encodes_every_type_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    path = parquet(tmp_path / "a.parquet", kind=pa.array(["b", "a", None, "b", "a"], kind))
    np.testing.assert_array_equal(read_all(path).inputs[:, 0], [1, 0, NAN, 1, 0])


def test_names_a_missing_column(tmp_path: Path) -> None:
    for path in both(tmp_path, x=[1.0], color=["red"]):
        with pytest.raises(DataError, match=r"column good: expected the column, .* found columns x, color"):
            open_rows(str(path), spec=InputSpec(ENCODER_COLUMNS))


def test_names_text_in_a_numeric_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("good,color,x\ntrue,red,1\ntrue,red,tall\n")
    with pytest.raises(DataError, match=r"a\.csv, row 1, column x: .* found .*'tall'"):
        open_rows(str(tmp_path / "a.csv"), spec=InputSpec(ENCODER_COLUMNS))
    path = parquet(tmp_path / "a.parquet", good=[True], color=["red"], x=["1"])
    with pytest.raises(DataError, match=r"column x: expected numbers or booleans, .* found string"):
        open_rows(str(path), spec=InputSpec(ENCODER_COLUMNS))


def test_names_numbers_in_a_text_column(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", good=[True], color=[3], x=[1.0])
    with pytest.raises(DataError, match=r"column color: expected text, .* found int64"):
        open_rows(str(path), spec=InputSpec(ENCODER_COLUMNS))


def test_names_other_numbers_in_a_boolean_column(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", good=[1, 0, 3], color=["red"] * 3, x=[1.0] * 3)
    with pytest.raises(DataError, match="row 2, column good: expected true or false, or 1 or 0, found 3"):
        list(open_rows(str(path), spec=InputSpec(ENCODER_COLUMNS)).chunks())


def test_an_encoder_without_column_names_accepts_only_complete_numbers(tmp_path: Path) -> None:
    for path in both(tmp_path, x=[1.0, None], kind=["a", "a"]):
        rows = open_rows(str(path), spec=InputSpec(()))
        assert rows.columns == (Column("x"),)
        with pytest.raises(DataError, match="row 1, column x: expected a finite number"):
            list(rows.chunks())


def test_refuses_parquet_text_that_is_not_utf_8(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"], pa.binary()).buffers())
    assert "expected a readable parquet file" in refused(parquet(tmp_path / "a.parquet", x=[1, 2], name=bad))


@pytest.mark.parametrize("row", [2, 300_000])
def test_names_a_word_in_a_numeric_column(tmp_path: Path, row: int) -> None:
    lines = ["1,2"] * (row + 3)
    lines[row] = "3,oops"
    message = refused(csv(tmp_path / "a.csv", "x,y\n" + "\n".join(lines) + "\n"))
    assert f"a.csv, row {row}, column y: " in message
    assert "'oops'" in message


@pytest.mark.parametrize("row", [1, 300_000])
def test_names_a_line_with_another_number_of_cells(tmp_path: Path, row: int) -> None:
    lines = ["1,2"] * (row + 3)
    lines[row] = "3"
    assert f"a.csv, row {row}: " in refused(csv(tmp_path / "a.csv", "x,y\n" + "\n".join(lines) + "\n"))


def test_codes_with_underscores_stay_text(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "a,zone\n" + "1,1_1\n2,1_2\n" * 20)
    assert open_rows(str(path)).columns[1].values == ("1_1", "1_2")


def test_accepts_long_lines(tmp_path: Path) -> None:
    wide = csv(tmp_path / "a.csv", ",".join(f"column_{i:030}" for i in range(60_000)) + "\n" + "1,2\n" * 0)
    assert "no row below the header" in refused(wide)
    long = csv(tmp_path / "b.csv", "a,text\n1," + "x" * 3_000_000 + "\n2,y\n")
    assert open_rows(str(long)).count == 2


def test_keeps_a_late_fraction_in_a_column_of_integers(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "x\n" + "1\n" * 600_000 + "2.5\n")
    *_, last = open_rows(str(path)).chunks()
    assert last.inputs[-1].tolist() == [2.5]
    assert open_rows(str(path)).count == 600_001


def test_a_column_of_codes_stays_text_if_some_are_numbers(tmp_path: Path) -> None:
    chunk = read_all(csv(tmp_path / "a.csv", "x,code\n1,A1\n2,12\n3,B7\n"))
    assert chunk.inputs.tolist() == [[1], [2], [3]]
    assert [payload["code"] for payload in chunk.payloads] == ["A1", "12", "B7"]


def test_every_numeric_type_of_a_parquet_is_input(tmp_path: Path) -> None:
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


def test_payload_contains_times_as_text_and_nan_as_missing(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", x=[1.0], day=[datetime.date(2020, 1, 2)], label=[float("nan")])
    assert read_all(path).payloads == [{"x": 1.0, "day": "2020-01-02", "label": None}]
    fine = pa.array([1_577_923_200_000_000_001], pa.timestamp("ns"))  # finer than Python's datetime
    pa_parquet.write_table(pa.table({"x": [1.0], "at": fine}), path)
    assert read_all(path).payloads == [{"x": 1.0, "at": "2020-01-02 00:00:00.000000001"}]


def test_a_payload_column_may_begin_empty_or_with_dates(tmp_path: Path) -> None:
    lines = ["x,note,day", *(["1,,2020-01-02"] * 150_000), "1,hello,unknown"]
    path = csv(tmp_path / "a.csv", "\n".join(lines) + "\n")
    assert read_all(path).payloads[-1] == {"x": 1, "note": "hello", "day": "unknown"}


def test_converts_ids_of_a_parquet_to_strings(tmp_path: Path) -> None:
    assert read_all(parquet(tmp_path / "a.parquet", id=[10, 11], x=[1.0, 2.0])).ids == ["10", "11"]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_names_the_row_of_a_missing_id(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    table = {"id": ["a", "b", None], "x": [1, 2, 3]}
    (parquet(path, **table) if name == "a.parquet" else csv(path, "id,x\na,1\nb,2\n,3\n"))
    assert "row 2, column id: expected an id" in refused(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "a line of column names, found an empty file"),
        ("x,y\n", "no row below the header"),
        (",a,b\n0,1,2\n", "a name for each column, found no name for column 0. Name the column"),
        ("0.5,red,-1\n0.25,blue,2\n", "a first line of column names, found 0.5, red, -1"),
        ("ID,x\na,1\nb,2\n", "the exact column name 'id', found 'ID'. Rename the column: to this exact name"),
        ("Label,x\na,1\nb,2\n", "the exact column name 'label'"),
        (" label,x\na,1\nb,2\n", "the exact column name 'label'"),
        ("name\nann\nbob\n", "columns ['name']"),
        ("x,x\n1,2\n", "columns"),
    ],
)
def test_refuses_a_csv_without_usable_columns(tmp_path: Path, text: str, found: str) -> None:
    assert found.removeprefix("columns") in refused(csv(tmp_path / "a.csv", text))


def test_names_row_and_column_of_text_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,name\n1,ann\n2,\xff\xfe\n")
    assert "row 1, column name: " in refused(path)


def test_refuses_duplicate_column_names_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pa_parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), path)
    assert "expected unique column names" in refused(path)


@pytest.mark.parametrize("keep", [0, 3, 50, -1])
def test_refuses_a_truncated_parquet(tmp_path: Path, keep: int) -> None:
    path = parquet(tmp_path / "a.parquet", x=np.arange(100.0))
    path.write_bytes(path.read_bytes()[:keep])
    assert "expected a readable parquet file" in refused(path)


def test_refuses_damaged_parquet_values(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pa_parquet.write_table(pa.table({"x": np.arange(1000.0)}), path, compression="gzip", use_dictionary=False)
    flip_bit(path, 8 * 200)
    refused(path)


FINE = pa.array([1_577_923_200_000_000_001, None], pa.timestamp("ns"))
FINE_TEXTS = ["2020-01-02 00:00:00.000000001", None]


def test_a_time_is_the_same_text_at_every_depth(tmp_path: Path) -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), FINE)
    structs = pa.StructArray.from_arrays([FINE], ["at"])
    path = parquet(tmp_path / "a.parquet", x=[1, 2], at=FINE, some=lists, one=structs, label=FINE)
    texts = zip([1, 2], FINE_TEXTS, strict=True)
    message = [{"x": x, "at": at, "some": [at], "one": {"at": at}, "label": at} for x, at in texts]
    assert read_all(path).payloads == message


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([1, 2], pa.timestamp("ns")), ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000000002"]),
        (pa.array([10**15], pa.timestamp("ms")), ["33658-09-27 01:46:40.000"]),
        (pa.array([10_000_000], pa.int32()).cast(pa.date32()), ["29349-01-26"]),
        (pa.array([1_000_000_001], pa.time64("ns")), ["00:00:01.000000001"]),
        (pa.array([1500], pa.duration("ms")), ["PT1.5S"]),
        (pa.array([b"AAA", b"ABA"]), ["AAA", "ABA"]),
        (pa.array([b"AAA"], pa.binary(3)), ["AAA"]),
        (pa.array([uuid.UUID(int=5).bytes], pa.uuid()), ["00000000-0000-0000-0000-000000000005"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([decimal.Decimal("12345678901234567890")]), ["12345678901234567890"]),
    ],
)
def test_ids_may_have_any_scalar_type(tmp_path: Path, ids: pa.Array, expected: list[str]) -> None:
    assert read_all(parquet(tmp_path / "a.parquet", id=ids, x=[1.0] * len(ids))).ids == expected


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["a", None]),
        pa.array(["a", ""]),
        pa.array([1.5, float("nan")]),
        pa.array(["a", None]).dictionary_encode(),
    ],
)
def test_names_the_row_of_an_empty_id(tmp_path: Path, ids: pa.Array) -> None:
    assert "row 1, column id: expected an id" in refused(parquet(tmp_path / "a.parquet", id=ids, x=[1, 2]))


@pytest.mark.parametrize("name", ["id", "label"])
def test_refuses_ids_and_labels_with_several_values(tmp_path: Path, name: str) -> None:
    tensor = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int8(), (1,)), pa.array([[1]], pa.list_(pa.int8(), 1))
    )
    for values in ([[1]], [{"a": 1}], tensor):
        assert f"column {name}: expected one value per row" in refused(
            parquet(tmp_path / "a.parquet", **{name: values, "x": [1]})
        )


def test_decodes_bytes_of_a_parquet_to_text(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", kind=pa.array([b"b", b"a", None, b"b", b"a"]), label=[b"x"] * 5)
    assert open_rows(str(path)).columns == (Column("kind", "categorical", ("a", "b")),)
    chunk = read_all(path)
    np.testing.assert_array_equal(chunk.inputs[:, 0], [1, 0, NAN, 1, 0])
    assert chunk.payloads[2] == {"kind": None, "label": "x"}
    rows = open_rows(str(path), spec=InputSpec((Column("kind", "categorical", ("b",)),)))
    np.testing.assert_array_equal(next(rows.chunks()).inputs[:, 0], [0, NAN, NAN, 0, NAN])


@pytest.mark.parametrize("name", ["id", "label", "note"])
def test_names_bytes_that_are_not_text(tmp_path: Path, name: str) -> None:
    path = parquet(tmp_path / "a.parquet", **{name: [b"a", b"\x00\xff"], "x": [1, 2]})
    message = refused(path)
    assert f"row 1, column {name}: expected text" in message
    assert "found 2 bytes that are not UTF-8, 0x00ff. Correct the row, write bytes as text" in message
    path = parquet(tmp_path / "a.parquet", note=[[b"a"], [b"\xff"]], x=[1, 2])
    assert "row 1, column note: expected text" in refused(path)


def test_refuses_a_struct_with_duplicate_fields(tmp_path: Path) -> None:
    pair = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    assert "column pair: expected a struct with unique field names" in refused(
        parquet(tmp_path / "a.parquet", x=[1], pair=pair)
    )


def test_reads_int96_timestamps_far_in_the_future(tmp_path: Path) -> None:
    far = pa.array([253_402_214_400_000_000], pa.timestamp("us"))  # 9999-12-31
    pa_parquet.write_table(
        pa.table({"x": [1], "at": far}), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True
    )
    assert read_all(tmp_path / "a.parquet").payloads == [{"x": 1, "at": "9999-12-31 00:00:00.000000"}]


def test_the_index_of_a_dataframe_is_payload(tmp_path: Path) -> None:
    message = {b"pandas": json.dumps({"index_columns": ["shop", "__index_level_1__"]}).encode()}
    table = pa.table({"x": [1, 2], "shop": ["a", "a"], "__index_level_1__": [7, 9]}).replace_schema_metadata(message)
    pa_parquet.write_table(table, tmp_path / "a.parquet")
    rows = open_rows(str(tmp_path / "a.parquet"))
    assert rows.columns == (Column("x"),)
    assert rows.notes == (
        "column __index_level_1__ is the index of pandas: payload, not input",
        "column shop is the index of pandas: payload, not input",
    )
    assert read_all(tmp_path / "a.parquet").payloads == [
        {"x": 1, "shop": "a", "__index_level_1__": 7},
        {"x": 2, "shop": "a", "__index_level_1__": 9},
    ]


def test_an_index_named_id_is_the_id(tmp_path: Path) -> None:
    message = {b"pandas": json.dumps({"index_columns": ["id"]}).encode()}
    pa_parquet.write_table(pa.table({"x": [1], "id": ["a"]}).replace_schema_metadata(message), tmp_path / "a.parquet")
    assert (read_all(tmp_path / "a.parquet").ids, open_rows(str(tmp_path / "a.parquet")).notes) == (["a"], ())


def test_refuses_too_many_columns() -> None:
    names = [f"c{i}" for i in range(MAX_COLUMNS + 1)]
    check_names(Path("t"), names[:-1], DataConfig())
    with pytest.raises(DataError, match=r"t: expected at most 65,536 columns, found 65,537\. Leave columns out"):
        check_names(Path("t"), names, DataConfig())
