"""Answers made by hand, so that what becomes of them is known."""

import numpy as np
import orjson
import pytest

from index.version import Found, Version
from service.encoding import VERSION_HEADER, embeddings_response, hits_response
from tests.service.helpers import JSON, NPY, from_npy

EMBEDDINGS = np.array([[0.5, -1.0], [0.25, 3.0]], np.float32)
FOUND = Found(np.array([[0.75, 0.5], [0.25, 9.0]], np.float32), np.array([[2, 0], [1, -1]]), np.array([0.5, 0.0078125]))


@pytest.fixture
def ids(version: Version) -> list[str]:
    return [version.items.id_at(i) for i in range(3)]


def test_embeddings_as_json(version: Version) -> None:
    answer = embeddings_response(version, EMBEDDINGS, "float")
    assert orjson.loads(answer.body) == {"version": 1, "embeddings": [[0.5, -1.0], [0.25, 3.0]]}
    assert (answer.media_type, answer.headers[VERSION_HEADER]) == (JSON, "1")


def test_embeddings_that_do_not_lie_together_as_json(version: Version) -> None:
    answer = embeddings_response(version, EMBEDDINGS[:, ::-1], "float")
    assert orjson.loads(answer.body)["embeddings"] == [[-1.0, 0.5], [3.0, 0.25]]


def test_embeddings_as_npy(version: Version) -> None:
    answer = embeddings_response(version, EMBEDDINGS, "npy")
    array = from_npy(bytes(answer.body))
    assert (array.tolist(), array.dtype.str) == (EMBEDDINGS.tolist(), "<f4")
    assert (answer.media_type, answer.headers[VERSION_HEADER]) == (NPY, "1")


def test_hits_as_json_leave_out_where_there_is_none(version: Version, ids: list[str]) -> None:
    answer = hits_response(version, FOUND, with_payload=False, as_npy=False)
    assert orjson.loads(answer.body) == {
        "version": 1,
        "results": [
            {"hits": [{"id": ids[2], "score": 0.75}, {"id": ids[0], "score": 0.5}], "novelty": 0.5},
            {"hits": [{"id": ids[1], "score": 0.25}], "novelty": 0.0078125},
        ],
    }
    assert answer.headers[VERSION_HEADER] == "1"


def test_hits_with_their_items_payloads(version: Version) -> None:
    body = orjson.loads(hits_response(version, FOUND, with_payload=True, as_npy=False).body)
    payloads = [[hit["payload"] for hit in found["hits"]] for found in body["results"]]
    assert payloads == [[version.items.payload_at(2), version.items.payload_at(0)], [version.items.payload_at(1)]]
    assert set(payloads[0][0]) == {"label"}


def test_hits_as_npy_are_records_with_an_empty_id_where_there_is_none(version: Version, ids: list[str]) -> None:
    array = from_npy(bytes(hits_response(version, FOUND, with_payload=True, as_npy=True).body))
    assert array.dtype.names == ("id", "score")
    assert array["id"].tolist() == [[ids[2], ids[0]], [ids[1], ""]]
    np.testing.assert_array_equal(array["score"], np.array([[0.75, 0.5], [0.25, np.nan]], np.float32))


def test_no_hit_at_all_is_an_array_all_the_same(version: Version) -> None:
    none = Found(np.zeros((1, 1), np.float32), np.array([[-1]]), np.ones(1))
    (result,) = orjson.loads(hits_response(version, none, with_payload=True, as_npy=False).body)["results"]
    assert result == {"hits": [], "novelty": 1.0}
    array = from_npy(bytes(hits_response(version, none, with_payload=True, as_npy=True).body))
    assert array["id"].tolist() == [[""]]
