from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from lookalike.service.client.requests import JSON, NPY, Query, embed_call, filter_param, put_call, search_call
from lookalike.service.parsing.decoding import decode_search
from lookalike.service.parsing.item_bodies import decode_items
from lookalike.service.parsing.npy_bodies import decode_npy
from lookalike.service.parsing.rows import RequestLimits
from tests.service.helpers import from_npy

SMALL = {"field": "label", "in": [1, 2]}
LONG = {"field": "label", "in": [f"label {number}" for number in range(1_000)]}


def query(**arguments: Any) -> Query:
    defaults = {"inputs": None, "embeddings": None, "ids": None, "limit": 3, "filter": None, "with_payload": True}
    return Query.of(**defaults | arguments)


@pytest.mark.parametrize("shape", [(5, 64), (5, 8, 8)])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "u1", "?"])
def test_sends_an_array_as_float32_npy(
    rows: NDArray[np.float32], limits: RequestLimits, shape: tuple[int, ...], dtype: str
) -> None:
    values = rows[:5].reshape(shape).astype(dtype)
    call = embed_call(values)
    assert (call.method, call.path, call.retryable) == ("POST", "embed", True)
    assert call.headers == {"Content-Type": NPY, "Accept": NPY}
    np.testing.assert_array_equal(decode_npy(call.body, "inputs", limits), values.reshape(5, 64).astype(np.float32))


def test_sends_noncontiguous_arrays_correctly(rows: NDArray[np.float32]) -> None:
    for values in (rows[:9:2], rows.T[:3], np.asfortranarray(rows[:4])):
        np.testing.assert_array_equal(from_npy(embed_call(values).body), values)


def test_sends_a_table_as_json_with_null_for_missing_values() -> None:
    table = [{"colour": "red", "size": np.float32(1.5)}, {"colour": None, "size": float("nan")}]
    call = embed_call(table)
    assert call.headers == {"Content-Type": JSON, "Accept": JSON}
    assert orjson.loads(call.body) == {
        "inputs": [{"colour": "red", "size": 1.5}, {"colour": None, "size": None}],
        "encoding_format": "base64",
    }
    assert orjson.loads(embed_call((("red", np.arange(4)[::2]),)).body)["inputs"] == [["red", [0, 2]]]


@pytest.mark.parametrize("kind", ["inputs", "embeddings"])
def test_searches_with_npy_and_puts_the_options_in_the_url(rows: NDArray[np.float32], kind: str) -> None:
    searched = query(**{kind: rows[:2]}, filter=SMALL, with_payload=False)
    call = search_call(searched, searched.rows)
    assert call.headers == {"Content-Type": NPY, "Accept": JSON}
    assert call.params.keys() == {"kind", "limit", "with_payload", "filter"}
    assert (call.params["kind"], call.params["limit"], call.params["with_payload"]) == (kind, "3", "false")
    assert orjson.loads(call.params["filter"]) == SMALL
    np.testing.assert_array_equal(from_npy(call.body), rows[:2])


@pytest.mark.parametrize("rows_of", [np.asarray, np.ndarray.tolist])
def test_sends_which_hits_of_windows_are_left_out(
    rows: NDArray[np.float32], limits: RequestLimits, rows_of: Any
) -> None:
    searched = query(inputs=rows_of(rows[:2]), distinct=False, exclude="30s")
    call = search_call(searched, searched.rows)
    if call.params:
        assert (call.params["distinct"], call.params["exclude"]) == ("false", '"30s"')
    else:
        read = decode_search(call.body, limits)
        assert (read.distinct, read.exclude) == (False, "30s")


@pytest.mark.parametrize("ids", [["5", "6"], ("5", "6"), np.array(["5", "6"])])
def test_sends_ids_as_json(limits: RequestLimits, ids: Any) -> None:
    searched = query(ids=ids, filter={"field": "label", "equal": 1}, with_payload=False)
    call = search_call(searched, searched.rows)
    read = decode_search(call.body, limits)
    assert (read.kind, read.ids, read.limit, read.with_payload) == ("ids", ["5", "6"], 3, False)
    assert read.filter is not None


def test_sends_a_filter_too_long_for_a_url_as_json_with_the_rows(
    rows: NDArray[np.float32], limits: RequestLimits
) -> None:
    searched = query(inputs=rows[:2], filter=LONG)
    call = search_call(searched, searched.rows)
    assert call.params == {}
    read = decode_search(call.body, limits)
    np.testing.assert_array_equal(read.rows, rows[:2])  # each float32 is the same after JSON
    assert read.filter is not None


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"inputs": np.zeros((1, 2)), "ids": ["1"]},
        {"ids": "17"},
        {"inputs": {"colour": "red"}},
        {"inputs": np.zeros(64)},
        {"inputs": np.array([["red", "blue"]])},
        {"embeddings": np.zeros((1, 2), complex)},
        {"embeddings": np.array([[None]])},
    ],
)
def test_refuses_invalid_queries(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        query(**arguments)


def test_raises_type_error_for_values_that_json_cannot_represent() -> None:
    with pytest.raises(TypeError):
        embed_call([{"colour": {1, 2}}])


def test_the_repr_of_a_call_contains_no_user_data() -> None:
    searched = query(inputs=np.full((1, 2), 31_337), filter={"field": "secret", "equal": "secret"})
    shown = repr(search_call(searched, searched.rows)) + repr(embed_call([{"secret": "secret"}]))
    assert "secret" not in shown
    assert "31337" not in shown
    assert "x93NUMPY" not in shown


@pytest.mark.parametrize("shape", [(5, 64), (5, 8, 8)])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "u1"])
def test_sends_items_as_json(
    rows: NDArray[np.float32], limits: RequestLimits, shape: tuple[int, ...], dtype: str
) -> None:
    values, ids, payloads = rows[:5].reshape(shape).astype(dtype), list("abcde"), [{"n": n} for n in range(5)]
    call = put_call(ids, values, payloads)
    assert (call.method, call.path, call.retryable, call.item) == ("PUT", "items", True, None)
    read = decode_items(call.body, limits)
    assert (read.ids, [orjson.loads(text) for text in read.payloads]) == (ids, payloads)
    np.testing.assert_array_equal(read.rows, values.reshape(5, 64).astype(np.float32))
    assert decode_items(put_call(ids, values.tolist(), None).body, limits).payloads == ["{}"] * 5


def test_refuses_infinity_and_sends_nan_as_null() -> None:
    for value in (np.inf, -np.inf):
        with pytest.raises(ValueError, match="in row 1"):
            put_call(["a", "b"], np.array([[1, 2], [3, value]]), None)
    (item,) = orjson.loads(put_call(["a"], np.array([[1, np.nan]]), None).body)["items"]
    assert item == {"id": "a", "input": [1, None]}


@pytest.mark.parametrize("values", [np.array([[1.76e9 + 0.25, 2]]), np.array([[1_760_000_000_000_000_256, 2]])])
def test_sends_an_input_as_float64_if_float32_loses_precision(values: NDArray[Any]) -> None:
    searched = query(inputs=values)
    for call in (embed_call(values), search_call(searched, searched.rows)):
        sent = from_npy(call.body)
        assert sent.dtype == np.float64
        assert sent.tolist() == values.astype(np.float64).tolist()
    (item,) = orjson.loads(put_call(["a"], values, None).body)["items"]
    assert item["input"] == values[0].tolist()
    assert from_npy(embed_call(np.array([[0.5, 2]])).body).dtype == np.float32


def test_sends_embeddings_as_float32() -> None:
    searched = query(embeddings=np.array([[0.1, 1e39]]))
    np.testing.assert_array_equal(
        from_npy(search_call(searched, searched.rows).body), np.array([[0.1, np.inf]], np.float32)
    )


def test_sends_the_embeddings_version_as_parameter_or_field(rows: NDArray[np.float32]) -> None:
    for filter in (None, LONG):
        searched = query(embeddings=rows[:2, :8], filter=filter, version=7)
        call = search_call(searched, searched.rows)
        response = call.params.get("version") if filter is None else orjson.loads(call.body)["version"]
        assert response == ("7" if filter is None else 7)
    assert "version" not in search_call(query(embeddings=rows[:2, :8]), rows[:2, :8]).params


def test_a_filter_parameter_is_json() -> None:
    assert filter_param(None) == {}
    assert orjson.loads(filter_param(SMALL)["filter"]) == SMALL
