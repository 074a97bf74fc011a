import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import Chunk, Rows, open_rows
from lookalike.training.transforms import InputSpec
from tests.factories import cloud

VECTORS = cloud(5, 3)
LISTS = {
    "lists": pa.array(VECTORS.tolist()),
    "large lists": pa.array(VECTORS.tolist(), pa.large_list(pa.float64())),
    "lists of one size": pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 3),
    "lists of float16": pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel().astype(np.float16)), 3),
    "tensors": pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS),
}


def opened(path: Path, **settings: Any) -> Rows:
    return open_rows(str(path), DataConfig(**settings), InputSpec(vectors=True))


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def all_of(rows: Rows, size: int = 2) -> Chunk:
    chunks = list(rows.chunks(size))
    return Chunk(
        [name for chunk in chunks for name in chunk.ids],
        np.concatenate([chunk.inputs for chunk in chunks]),
        [payload for chunk in chunks for payload in chunk.payloads],
    )


@pytest.mark.parametrize("vectors", LISTS.values(), ids=LISTS.keys())
def test_a_column_of_lists_is_the_vector_and_others_are_payload(tmp_path: Path, vectors: pa.Array) -> None:
    path = parquet(tmp_path / "V.PARQUET", id=list("abcde"), label=[1, 2, 3, 4, 5], words=list("vwxyz"), v=vectors)
    rows = opened(path)
    assert (rows.shape, rows.count, rows.columns) == ((3,), 5, ())
    chunk = all_of(rows)
    np.testing.assert_allclose(chunk.inputs, VECTORS, rtol=1e-3)
    assert chunk.ids == list("abcde")
    assert chunk.payloads[2] == {"label": 3, "words": "x"}


def test_the_settings_name_the_columns_of_ids_and_labels(tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", key=[7, 8], kind=["x", "y"], v=[[1.0], [2.0]])
    chunk = all_of(opened(path, id="key", label="kind"))
    assert (chunk.ids, chunk.payloads) == (["7", "8"], [{"kind": "x", "label": "x"}, {"kind": "y", "label": "y"}])
    path = parquet(tmp_path / "w.parquet", id=["a", None], v=[[1.0], [2.0]])
    with pytest.raises(DataError, match="row 1, column id: expected an id, found a missing value"):
        all_of(opened(path))


def test_columns_of_numbers_are_the_vector_if_there_are_no_lists(tmp_path: Path) -> None:
    names = ("x", "y", "z")
    columns = dict(zip(names, VECTORS.T, strict=True))
    path = parquet(tmp_path / "v.parquet", id=[5, 4, 3, 2, 1], **columns, note=list("abcde"))
    chunk = all_of(opened(path))
    assert np.array_equal(chunk.inputs, VECTORS)
    assert (chunk.ids[0], chunk.payloads[0]) == ("5", {"note": "a"})
    chunk = all_of(opened(path, columns=("z", "x")))
    assert np.array_equal(chunk.inputs, VECTORS[:, [2, 0]])
    told = "no column of lists: the vectors are the 3 columns of numbers (x, y, z); --columns names others"
    assert (opened(path).notes, opened(path, columns=("z", "x")).notes) == ((told,), ())
    path = parquet(tmp_path / "w.parquet", **{f"c{number}": [1.0] for number in range(21)})
    assert (
        f"21 columns of numbers ({', '.join(f'c{number}' for number in range(19))}, ..., c20);" in opened(path).notes[0]
    )
    assert chunk.payloads[0] == {"y": pytest.approx(float(VECTORS[0, 1])), "note": "a"}


def test_of_several_columns_of_lists_one_is_chosen_by_name(tmp_path: Path) -> None:
    lists = LISTS["lists"]
    path = parquet(tmp_path / "v.parquet", other=lists, embedding=lists)
    assert all_of(opened(path)).payloads[0].keys() == {"other"}
    assert all_of(opened(path, columns=("other",))).payloads[0].keys() == {"embedding"}
    path = parquet(tmp_path / "w.parquet", one=lists, two=lists)
    with pytest.raises(DataError, match=r"expected one column of lists of numbers, found one, two\. Name the column"):
        opened(path)


def test_an_exported_payload_is_read_as_json(tmp_path: Path) -> None:
    texts = ['{"a": 1}', None, "{}", "{}", "{}"]
    path = parquet(tmp_path / "v.parquet", id=list("abcde"), payload=texts, embedding=LISTS["lists"])
    assert all_of(opened(path)).payloads == [{"a": 1}, {}, {}, {}, {}]
    path = parquet(tmp_path / "w.parquet", payload=["{}", "{}", "[1]", "{}", "{}"], embedding=LISTS["lists"])
    with pytest.raises(DataError, match=r"row 2, column payload: expected a JSON object, found '\[1\]'"):
        all_of(opened(path))


BAD: dict[str, tuple[Any, str]] = {
    "another length": ([[1.0, 2.0]] * 3 + [[1.0]] + [[1.0, 2.0]], "row 3, column v: expected a list of 2 numbers"),
    "a missing list": ([[1.0, 2.0]] * 4 + [None], "row 4, column v: .* found a missing value"),
    "a missing number": ([[1.0, 2.0]] * 3 + [[None, 2.0]] * 2, "row 3, column v: .* found a missing number"),
    "not a number": ([[1.0, 2.0]] * 3 + [[np.nan, 2.0]] * 2, "row 3, column 0: .* found a missing value or NaN"),
    "an empty first list": ([[], [1.0], [1.0], [1.0], [1.0]], "row 0, column v: .* found an empty list"),
}


@pytest.mark.parametrize(("lists", "reason"), BAD.values(), ids=BAD.keys())
def test_names_the_row_of_a_wrong_vector(tmp_path: Path, lists: Any, reason: str) -> None:
    path = parquet(tmp_path / "v.parquet", v=pa.array(lists, pa.list_(pa.float32())))
    with pytest.raises(DataError, match=reason):
        all_of(opened(path))


def test_names_the_row_of_a_missing_number(tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", x=[1.0, 2.0, 3.0], y=[1.0, 2.0, None])
    with pytest.raises(DataError, match="row 2, column y: expected a number, found a missing value"):
        all_of(opened(path))


def test_names_what_is_no_file_of_vectors(tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", words=["a"])
    with pytest.raises(DataError, match="expected a column of lists of numbers, or columns of numbers"):
        opened(path)
    with pytest.raises(DataError, match="expected columns nope, found no column 'nope'"):
        opened(path, columns=("nope",))
    with pytest.raises(DataError, match="columns words: expected one column of lists of numbers, or columns of numbe"):
        opened(path, columns=("words",))
    with pytest.raises(DataError, match="found no file at that path"):
        opened(tmp_path / "missing.npy")
    (tmp_path / "v.csv").write_text("x,y\n1,2\n")
    with pytest.raises(
        DataError, match=r"expected embeddings as \.npy, \.npz, \.parquet, \.arrow or \.jsonl, found a text"
    ):
        opened(tmp_path / "v.csv")
    with pytest.raises(DataError, match="found an unknown name"):
        opened(tmp_path / "digits")
    (tmp_path / "damaged.parquet").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="expected a readable parquet file"):
        opened(tmp_path / "damaged.parquet")


def test_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", (10 * VECTORS).astype(np.uint8))
    rows = opened(tmp_path / "v.npy")
    assert (rows.shape, rows.pixels) == ((3,), False)
    np.savez(
        tmp_path / "v.npz",
        embeddings=VECTORS,
        ids=np.array(list("abcde")),
        labels=np.arange(5),
        payloads=np.array(['{"a": 1}', "{}", "{}", "{}", '{"label": 9}']),
    )
    chunk = all_of(opened(tmp_path / "v.npz"))
    assert np.array_equal(chunk.inputs, VECTORS)
    assert chunk.ids == list("abcde")
    assert (chunk.payloads[0], chunk.payloads[4]) == ({"a": 1, "label": 0}, {"label": 4})
    np.savez(tmp_path / "w.npz", embeddings=VECTORS, payloads=np.array(["{}"] * 4 + ["[]"]))
    with pytest.raises(DataError, match=r"array 'payloads', row 4: expected a JSON object as text, found '\[\]'"):
        opened(tmp_path / "w.npz")


def test_a_table_that_is_opened_again_for_vectors_is_read_as_vectors(tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", embedding=LISTS["lists"], price=[1.0, 2.0, 3.0, 4.0, 5.0])
    rows = open_rows(str(path)).suited(InputSpec(vectors=True))
    assert np.array_equal(all_of(rows).inputs, VECTORS)


def test_reads_every_table_with_types(tmp_path: Path) -> None:
    table = pa.table({"id": list("abcde"), "embedding": LISTS["lists"], "price": [1, 2, 3, 4, 5]})
    with pa.ipc.new_file(str(tmp_path / "v.arrow"), table.schema) as arrow:
        arrow.write_table(table)
    lines = "".join(f"{json.dumps(row)}\n" for row in table.to_pylist())
    (tmp_path / "v.jsonl").write_text(lines)
    (tmp_path / "v.ndjson.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "parts").mkdir()
    pq.write_table(table[:2], tmp_path / "parts" / "1.parquet")
    pq.write_table(table[2:], tmp_path / "parts" / "2.parquet")
    for name in ("v.arrow", "v.jsonl", "v.ndjson.gz", "parts"):
        chunk = all_of(opened(tmp_path / name))
        np.testing.assert_allclose(chunk.inputs, VECTORS)
        assert chunk.ids == list("abcde")
        assert chunk.payloads[4] == {"price": 5}
    (tmp_path / "w.jsonl").write_text('{"v": [1, 2]}\n{"v": [3]}\n')
    with pytest.raises(
        DataError, match="row 1, column v: expected a list of 2 numbers, as in row 0, found a list of 1"
    ):
        all_of(opened(tmp_path / "w.jsonl"))
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "v.npy.gz").write_bytes(gzip.compress((tmp_path / "v.npy").read_bytes()))
    assert np.array_equal(all_of(opened(tmp_path / "v.npy.gz")).inputs, VECTORS)
