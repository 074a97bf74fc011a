import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import lookalike
from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import Chunk, open_rows
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import InputSpec
from tests.factories import quick


class Items(Dataset[Any]):
    """A map-style dataset of three items."""

    def __init__(self, item: Callable[[int], Any], count: int = 3) -> None:
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        return self.item(number)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        return iter([1])


def read(source: Any, size: int = 2) -> Chunk:
    """All rows of an object, read in parts."""
    chunks = list(open_rows(source).chunks(size))
    return Chunk(
        [name for chunk in chunks for name in chunk.ids],
        np.concatenate([chunk.inputs for chunk in chunks]),
        [payload for chunk in chunks for payload in chunk.payloads],
    )


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6, dtype=np.int64).reshape(3, 2),
        np.arange(6.0).reshape(2, 3, order="F").reshape(3, 2),
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.zeros((3, 2, 2), np.uint8),
    ],
)
def test_an_array_is_its_rows(values: Any) -> None:
    rows = open_rows(values)
    assert (rows.name, rows.shape, rows.count) == ("ndarray", values.shape[1:], 3)
    assert rows.pixels == (values.dtype == np.uint8)
    chunk = read(values)
    np.testing.assert_array_equal(chunk.inputs, values.reshape(3, -1))
    assert (chunk.ids, chunk.payloads) == (["0", "1", "2"], [{}, {}, {}])


def test_a_named_index_of_pandas_is_payload() -> None:
    frame = pd.DataFrame({"x": [1, 2], "key": ["a", "b"]}).set_index("key")
    rows = open_rows(frame)
    assert rows.columns == (Column("x"),)
    assert rows.notes == ("column key is the index of pandas: payload, not input",)
    assert [payload["key"] for payload in read(frame).payloads] == ["a", "b"]
    assert "key" not in read(frame.reset_index(drop=True)).payloads[0]


def test_an_index_named_id_is_the_ids() -> None:
    assert read(pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="id"))).ids == ["a", "b"]


def test_missing_values_and_types_of_pandas() -> None:
    frame = pd.DataFrame(
        {
            "x": [1.5, None],
            "n": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "at": pd.to_datetime(["2024-01-02", None]).tz_localize("UTC"),
            "o": [{"k": [1]}, None],
            1: ["u", "u"],
        }
    )
    rows, chunk = open_rows(frame), read(frame)
    places = [[column.name for column in rows.columns].index(name) for name in ("x", "n", "b", "1")]
    np.testing.assert_array_equal(chunk.inputs[:, places], [[1.5, 1, 1, 0], [np.nan, np.nan, np.nan, 0]])
    assert [payload["o"] for payload in chunk.payloads] == [{"k": [1]}, None]
    assert str(chunk.payloads[0]["at"]).startswith("2024-01-02 00:00:00")
    assert chunk.payloads[1]["at"] is None


def test_types_of_polars() -> None:
    frame = pl.DataFrame({"x": [1, 2], "day": [datetime.date(2024, 1, 2)] * 2, "l": [[1], []], "s": [{"k": "v"}] * 2})
    expected = {"day": "2024-01-02", "l": [], "s": {"k": "v"}}
    assert {name: read(frame).payloads[1][name] for name in expected} == expected


def test_a_table_is_read_for_an_encoder() -> None:
    frame = pd.DataFrame({"x": [1, 2], "c": ["u", "u"]})
    rows = open_rows(frame, spec=InputSpec((Column("c", "categorical", ("t", "u")),)))
    assert next(rows.chunks()).inputs.tolist() == [[1], [1]]
    assert len(open_rows(frame).with_settings(DataConfig(categories=0)).columns) == 1
    with pytest.raises(DataError, match="DataFrame, column y: expected the column"):
        open_rows(frame).suited(InputSpec((Column("y"),)))


def test_a_hugging_face_dataset_keeps_its_selection() -> None:
    data = datasets.Dataset.from_dict({"id": ["a", "b", "c"], "x": [1, 2, 3], "label": [0, 1, 0]})
    chunk = read(data.select([2, 0]))
    assert (chunk.ids, chunk.inputs.tolist()) == (["c", "a"], [[3], [1]])
    assert [payload["label"] for payload in chunk.payloads] == [0, 0]


def test_a_hugging_face_dataset_of_pictures() -> None:
    data = datasets.Dataset.from_dict(
        {"image": [Image.new("L", (2, 1), number) for number in range(3)], "label": [0, 1, 0]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}),
    )
    rows, chunk = open_rows(data), read(data)
    assert (rows.shape, rows.pixels) == ((1, 2), True)
    assert chunk.inputs.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert chunk.payloads == [{"label": 0}, {"label": 1}, {"label": 0}]


@pytest.mark.parametrize(
    ("source", "shape", "ids", "payloads"),
    [
        (Items(lambda i: torch.full((2, 2), i)), (2, 2), ["0", "1", "2"], [{}, {}, {}]),
        (Items(lambda i: np.full((2, 2), i)), (2, 2), ["0", "1", "2"], [{}, {}, {}]),
        (Items(lambda i: [[i, i], [i, i]]), None, None, None),
        (Items(lambda i: (torch.full((4,), i), i)), (4,), ["0", "1", "2"], [{"label": i} for i in range(3)]),
        (Items(lambda i: (torch.full((4,), i),)), (4,), ["0", "1", "2"], [{}, {}, {}]),
        (Items(lambda i: (torch.full((4,), i, dtype=torch.bfloat16), "a")), (4,), None, [{"label": "a"}] * 3),
        (TensorDataset(torch.arange(3)[:, None].repeat(1, 4), torch.tensor([5, 6, 7])), (4,), None, None),
        (
            Items(lambda i: {"pixels": Image.new("L", (2, 2), i), "id": f"p{i}", "label": torch.tensor(i), "n": None}),
            (2, 2),
            ["p0", "p1", "p2"],
            [{"label": i, "n": None} for i in range(3)],
        ),
        (torch.arange(3)[:, None].repeat(1, 4), (4,), ["0", "1", "2"], [{}, {}, {}]),
    ],
)
def test_a_dataset_is_its_items(source: Any, shape: Any, ids: Any, payloads: Any) -> None:
    if shape is None:
        with pytest.raises(DataError, match="item 0, label: expected text, a number"):
            open_rows(source)
        return
    assert open_rows(source).shape == shape
    chunk = read(source)
    assert chunk.inputs.tolist() == [[i] * 4 for i in range(3)]
    assert chunk.ids == (ids or ["0", "1", "2"])
    assert payloads is None or chunk.payloads == payloads


def test_a_dataset_of_dictionaries_without_arrays_is_a_table() -> None:
    source = Items(lambda i: {"x": torch.tensor(i), "c": "uv"[i % 2], "id": f"r{i}"}, count=4)
    rows, chunk = open_rows(source), read(source)
    assert rows.columns == (Column("x"), Column("c", "categorical", ("u", "v")))
    assert (chunk.ids, chunk.inputs.tolist()) == (["r0", "r1", "r2", "r3"], [[0, 0], [1, 1], [2, 0], [3, 1]])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (np.zeros(3), "ndarray: expected shape (rows, columns, ...), found shape (3,)"),
        (np.zeros((0, 2)), "ndarray: expected at least one row"),
        (np.array([["a"]]), "ndarray: expected an array of numbers, found dtype <U1"),
        (np.array([[object()]]), "ndarray: expected an array of numbers, found dtype object"),
        (np.zeros((2, 1), complex), "ndarray: expected an array of numbers, found dtype complex128"),
        (pd.DataFrame(), "DataFrame: expected at least one row, found no rows"),
        (pd.DataFrame({"x": [1, "a"]}), "DataFrame: expected columns that each have one type, found"),
        (pd.Series([1, 2]), "Series: expected columns that each have one type, found"),
        (pl.DataFrame({"x": [1]}).lazy(), "LazyFrame: expected a path, a URL, a pandas or polars DataFrame"),
        (pa.table({"x": [1]}).to_reader(), "RecordBatchReader: expected a path, a URL"),
        (pa.table([[1], [2]], names=["x", "x"]), "Table: expected unique column names"),
        ([[1, 2]], "list: expected a path, a URL"),
        ({"x": [1]}, "dict: expected a path, a URL"),
        (b"a.csv", "bytes: expected a path, a URL"),
        (5, "int: expected a path, a URL"),
        (None, "NoneType: expected a path, a URL"),
        (Endless(), "Endless: expected a path, a URL"),
        (datasets.DatasetDict(train=datasets.Dataset.from_dict({"x": [1]})), "DatasetDict: expected a path"),
        (Items(lambda i: i, count=0), "Items: expected at least one row"),
        (Items(lambda i: "x"), "Items, item 0: expected a tensor or an array of numbers, found str"),
        (Items(lambda i: (1, 2, 3)), "Items, item 0: expected values, or a pair of values and a label, found 3 parts"),
        (Items(lambda i: {"a": np.ones(1), "b": np.ones(1)}), "item 0: expected one field with an array, found the"),
        (Items(lambda i: {"a": np.ones(1), "b": [object()]}), "item 0: expected one field with an array"),
        (Items(lambda i: {"a": [1, 2][i:]} if i else {"a": "x"}), "expected dictionaries whose fields each have"),
    ],
)
def test_refuses_other_objects(source: Any, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        open_rows(source)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            lambda i: torch.ones(i + 1),
            "Items, item 1: expected values of shape (1,), as in item 0, found shape",
        ),
        (lambda i: {"a": np.ones(1)} if i == 0 else {"b": 1}, "Items, item 1: expected a field with an array, as in"),
        (lambda i: np.array([1.0, np.nan]), "Items, row 0, column 1: expected a finite number"),
        (
            lambda i: [np.ones(1)][i],
            "Items, item 1: expected an item at each position below the length, found IndexError",
        ),
    ],
)
def test_names_the_item_that_does_not_fit(item: Callable[[int], Any], expected: str) -> None:
    with pytest.raises(DataError) as caught:
        read(Items(item))
    assert expected in str(caught.value)


def test_a_data_frame_becomes_a_version(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(200, 4)), columns=list("abcd"))
    frame.insert(0, "id", [f"r{number}" for number in range(200)])
    rows = lookalike.open_rows(frame)
    lookalike.train(rows, quick(), tmp_path / "run")
    store = lookalike.Store(tmp_path / "store")
    number = lookalike.build(rows, tmp_path / "run", store, device="cpu")
    version = store.open(number)
    assert (version.manifest.data.name, version.manifest.data.rows) == ("DataFrame", 200)
    assert {version.items.id_at(position) for position in range(200)} == set(frame["id"])
