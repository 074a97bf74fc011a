import json

import pyarrow as pa
import pytest

from lookalike.training.rows.pandas_index import index_columns


def schema(names: list[str], told: object = None) -> pa.Schema:
    metadata = None if told is None else {"pandas": told if isinstance(told, bytes) else json.dumps(told)}
    return pa.schema([(name, pa.int64()) for name in names], metadata=metadata)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"index_columns": ["day", "b"]}, {"day", "b"}),
        ({"index_columns": ["gone"]}, set()),
        ({"index_columns": [{"kind": "range", "name": None, "start": 0, "stop": 3, "step": 1}]}, set()),
        ({"index_columns": 3}, set()),
        ({}, set()),
        ([], set()),
        (b"{", set()),
        (b"\xff", set()),
        (None, set()),
    ],
)
def test_the_metadata_of_pandas_names_the_index(told: object, expected: set[str]) -> None:
    assert index_columns(schema(["a", "day", "b"], told)) == expected


def test_an_index_without_a_name_is_known_by_the_one_that_pandas_gives_it() -> None:
    names = ["a", "__index_level_0__", "__index_level_12__", "__index_level__", "index"]
    assert index_columns(schema(names)) == {"__index_level_0__", "__index_level_12__"}
