import json

import pyarrow as pa
import pytest

from lookalike.training.rows.pandas_index import index_columns


def schema(names: list[str], content: object = None) -> pa.Schema:
    metadata = None if content is None else {"pandas": content if isinstance(content, bytes) else json.dumps(content)}
    return pa.schema([(name, pa.int64()) for name in names], metadata=metadata)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"index_columns": ["day", "b"]}, {"day", "b"}),
        ({"index_columns": ["absent"]}, set()),
        ({"index_columns": [{"kind": "range", "name": None, "start": 0, "stop": 3, "step": 1}]}, set()),
        ({"index_columns": 3}, set()),
        ({}, set()),
        ([], set()),
        (b"{", set()),
        (b"\xff", set()),
        (None, set()),
    ],
)
def test_finds_the_index_in_the_metadata_of_pandas(content: object, expected: set[str]) -> None:
    assert index_columns(schema(["a", "day", "b"], content)) == expected


def test_finds_an_unnamed_index_by_its_generated_name() -> None:
    names = ["a", "__index_level_0__", "__index_level_12__", "__index_level__", "index"]
    assert index_columns(schema(names)) == {"__index_level_0__", "__index_level_12__"}
