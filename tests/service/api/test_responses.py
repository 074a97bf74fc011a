"""Responses of results that are made by hand."""

import asyncio
import base64
import json
from typing import Literal

import numpy as np
import orjson
import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection
from lookalike.index.versions.searching import SearchResult
from lookalike.index.versions.version import Version
from lookalike.service.api.responses import (
    PAGE_BYTES,
    PART_BYTES,
    PART_VALUES,
    VERSION_HEADER,
    embeddings_response,
    hits_response,
    items_response,
)
from lookalike.service.errors import TooLargeError
from tests.service.helpers import JSON, NPY, from_npy

EMBEDDINGS = np.array([[0.5, -1.0], [0.25, 3.0]], np.float32)
FOUND = SearchResult(
    np.array([[0.75, 0.5], [0.25, 9.0]], np.float32), np.array([[2, 0], [1, -1]]), np.array([0.5, 0.0078125])
)


@pytest.fixture
def ids(version: Version) -> list[str]:
    return [version.items.id_at(i) for i in range(3)]


def test_embeddings_as_json(version: Version) -> None:
    answer = embeddings_response(Collection(version), EMBEDDINGS, "float")
    assert orjson.loads(answer.body) == {"version": 1, "embeddings": [[0.5, -1.0], [0.25, 3.0]]}
    assert (answer.media_type, answer.headers[VERSION_HEADER]) == (JSON, "1")


def test_embeddings_that_do_not_lie_together_as_json(version: Version) -> None:
    answer = embeddings_response(Collection(version), EMBEDDINGS[:, ::-1], "float")
    assert orjson.loads(answer.body)["embeddings"] == [[-1.0, 0.5], [3.0, 0.25]]


def test_embeddings_as_npy(version: Version) -> None:
    answer = embeddings_response(Collection(version), EMBEDDINGS, "npy")
    array = from_npy(bytes(answer.body))
    assert (array.tolist(), array.dtype.str) == (EMBEDDINGS.tolist(), "<f4")
    assert (answer.media_type, answer.headers[VERSION_HEADER]) == (NPY, "1")


def test_embeddings_as_base64_of_little_endian_float32(version: Version) -> None:
    answer = embeddings_response(Collection(version), EMBEDDINGS, "base64")
    # 0.5 is 00 00 00 3f, -1 is 00 00 80 bf; 0.25 is 00 00 80 3e, 3 is 00 00 40 40.
    assert orjson.loads(answer.body) == {"version": 1, "embeddings": ["AAAAPwAAgL8=", "AACAPgAAQEA="]}
    assert (answer.media_type, answer.headers[VERSION_HEADER]) == (JSON, "1")


def test_base64_of_what_does_not_lie_together_or_is_of_another_order(version: Version) -> None:
    expected = orjson.loads(embeddings_response(Collection(version), EMBEDDINGS, "base64").body)
    for array in (EMBEDDINGS[:, ::-1].copy()[:, ::-1], np.asfortranarray(EMBEDDINGS), EMBEDDINGS.astype(">f4")):
        assert orjson.loads(embeddings_response(Collection(version), array, "base64").body) == expected


async def parts_of(answer: Response) -> list[bytes]:
    """The parts of a body, as a server reads them."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "method": "POST", "asgi": {"spec_version": "2.4"}}
    await answer(scope, receive, send)
    head = dict(sent[0]["headers"])
    assert (head[b"content-type"], head[VERSION_HEADER.lower().encode()]) == (JSON.encode(), b"1")
    return [message["body"] for message in sent[1:] if message["body"]]


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["float", "base64"])
@pytest.mark.parametrize("width", [1, 8, 48, PART_VALUES + 1])
@pytest.mark.parametrize("parts", [1.0, 1.5, 3.0, 3.2])
async def test_a_large_answer_comes_in_parts_and_is_the_same(
    version: Version, form: Literal["float", "base64"], width: int, parts: float
) -> None:
    count = max(2, round(parts * PART_VALUES / width))
    embeddings = np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)
    came = await parts_of(embeddings_response(Collection(version), embeddings, form))
    body = orjson.loads(b"".join(came))
    assert set(body) == {"version", "embeddings"}
    if form == "base64":
        back = [np.frombuffer(base64.b64decode(text), "<f4") for text in body["embeddings"]]
        assert np.array_equal(np.stack(back), embeddings)
    else:
        assert np.array_equal(np.array(body["embeddings"], np.float32), embeddings)
    if count * width > PART_VALUES:
        assert len(came) >= 3
        assert max(map(len, came)) < len(b"".join(came))


def test_no_embedding_is_an_empty_list(version: Version) -> None:
    answer = embeddings_response(Collection(version), np.empty((0, 2), np.float32), "float")
    assert orjson.loads(answer.body) == {"version": 1, "embeddings": []}


def test_json_leaves_out_missing_hits(version: Version, ids: list[str]) -> None:
    answer = hits_response(Collection(version), FOUND, with_payload=False, as_npy=False)
    assert orjson.loads(answer.body) == {
        "version": 1,
        "sequence": 0,
        "results": [
            {"hits": [{"id": ids[2], "score": 0.75}, {"id": ids[0], "score": 0.5}], "novelty": 0.5},
            {"hits": [{"id": ids[1], "score": 0.25}], "novelty": 0.0078125},
        ],
    }
    assert answer.headers[VERSION_HEADER] == "1"


def test_hits_with_their_items_payloads(version: Version) -> None:
    body = orjson.loads(hits_response(Collection(version), FOUND, with_payload=True, as_npy=False).body)
    payloads = [[hit["payload"] for hit in found["hits"]] for found in body["results"]]
    assert payloads == [[version.items.payload_at(2), version.items.payload_at(0)], [version.items.payload_at(1)]]
    assert set(payloads[0][0]) == {"label"}


def test_npy_hits_have_an_empty_id_for_a_missing_hit(version: Version, ids: list[str]) -> None:
    array = from_npy(bytes(hits_response(Collection(version), FOUND, with_payload=True, as_npy=True).body))
    assert array.dtype.names == ("id", "score")
    assert array["id"].tolist() == [[ids[2], ids[0]], [ids[1], ""]]
    np.testing.assert_array_equal(array["score"], np.array([[0.75, 0.5], [0.25, np.nan]], np.float32))


def test_no_hit_at_all_is_an_array_all_the_same(version: Version) -> None:
    none = SearchResult(np.zeros((1, 1), np.float32), np.array([[-1]]), np.ones(1))
    (result,) = orjson.loads(hits_response(Collection(version), none, with_payload=True, as_npy=False).body)["results"]
    assert result == {"hits": [], "novelty": 1.0}
    array = from_npy(bytes(hits_response(Collection(version), none, with_payload=True, as_npy=True).body))
    assert array["id"].tolist() == [[""]]


async def streamed(answer: Response) -> list[bytes]:
    """The parts of a large answer."""
    assert isinstance(answer, StreamingResponse)
    return [bytes(part) async for part in answer.body_iterator]  # type: ignore[arg-type]


@pytest.fixture
def large(version: Version) -> Collection:
    """The version's collection, with 300 new items that have payloads of 40 kB, at the positions from 1,437 on."""
    collection = Collection(version)
    changes = [Change(f"large-{i:03}", version.canary[0], payload_of(i), i + 1) for i in range(300)]
    collection.apply(changes, version.embed(np.repeat(version.canary[:1], 300, axis=0)))
    return collection


def payload_of(number: int) -> str:
    return json.dumps({"p": "x" * 40_000, "i": number})


LARGE = 1_437


@pytest.mark.anyio
@pytest.mark.parametrize(("queries", "limit"), [(1, 300), (3, 100), (300, 1), (2, 60)])
async def test_many_bytes_of_hits_are_written_in_parts(large: Collection, queries: int, limit: int) -> None:
    """The same hits, divided among the queries in several ways; the last of each query is missing."""
    positions = LARGE + np.arange(queries * limit).reshape(queries, limit) % 300
    positions[:, -1] = -1 if limit > 1 else positions[:, -1]
    found = SearchResult(np.full(positions.shape, 0.5, np.float32), positions, np.linspace(0.1, 1, queries), 7)
    parts = await streamed(hits_response(large, found, with_payload=True, as_npy=False))
    assert max(map(len, parts)) < 3 * PART_BYTES
    assert min(map(len, parts[:-1])) >= PART_BYTES
    answer = json.loads(b"".join(parts))
    assert (answer["version"], answer["sequence"]) == (1, 7)
    told = [[(hit["id"], hit["payload"]["i"]) for hit in one["hits"]] for one in answer["results"]]
    assert told == [[(f"large-{p - LARGE:03}", p - LARGE) for p in row if p >= 0] for row in positions.tolist()]
    assert [one["novelty"] for one in answer["results"]] == found.novelty.tolist()


@pytest.mark.parametrize("queries", [1, 300])
def test_an_answer_of_too_many_bytes_is_refused(large: Collection, queries: int) -> None:
    """Each hit has at least 40,018 bytes of payload, and its own id and score."""
    positions = np.repeat(LARGE + np.arange(30)[None, :], queries, axis=0)
    found = SearchResult(np.zeros(positions.shape, np.float32), positions, np.ones(queries), 7)
    with pytest.raises(TooLargeError, match="limit: expected an answer of at most 1200000 bytes"):
        hits_response(large, found, with_payload=True, as_npy=False, most=1_200_000)
    hits_response(large, found, with_payload=True, as_npy=False, most=1_300_000 * queries)
    hits_response(large, found, with_payload=False, as_npy=False, most=1_200_000)


@pytest.mark.anyio
@pytest.mark.parametrize("is_last", [True, False])
async def test_a_page_of_many_bytes_ends_early_and_names_the_next(large: Collection, is_last: bool) -> None:
    positions, seen = list(range(LARGE, LARGE + 300)), list[str]()
    for _ in range(3):
        answer = items_response(large, positions, 7, is_last=is_last)
        page = json.loads(b"".join(await streamed(answer)))
        names = [item["id"] for item in page["items"]]
        size = sum(len(payload_of(int(name[-3:]))) for name in names)
        assert [item["payload"]["i"] for item in page["items"]] == [int(name[-3:]) for name in names]
        assert size <= PAGE_BYTES + 50_000
        seen += names
        positions = positions[len(names) :]
        if not positions:
            break
        assert page["next"] == names[-1]
        assert size > PAGE_BYTES - 50_000
    assert seen == [f"large-{i:03}" for i in range(300)]
    assert page["next"] == (None if is_last else seen[-1])


@pytest.mark.anyio
async def test_a_large_npy_is_written_in_parts_and_says_its_length(version: Version) -> None:
    embeddings = np.arange(2 * PART_BYTES, dtype=np.float32).reshape(-1, 8)
    answer = embeddings_response(Collection(version), embeddings, "npy")
    parts = await streamed(answer)
    assert max(map(len, parts)) == PART_BYTES
    assert answer.headers["content-length"] == str(sum(map(len, parts)))
    np.testing.assert_array_equal(from_npy(b"".join(parts)), embeddings)


@pytest.mark.anyio
async def test_the_result_of_a_part_of_a_row_has_the_columns_that_were_used(version: Version) -> None:
    collection = Collection(version)
    columns: list[list[str] | None] = [["size", "color"], None]
    answer = hits_response(collection, FOUND, with_payload=False, as_npy=False, columns=columns)
    first, second = orjson.loads(answer.body)["results"]
    assert (first["columns"], first["novelty"]) == (["size", "color"], 0.5)
    assert second.keys() == {"hits", "novelty"}
    scores, positions = np.repeat(FOUND.scores, 3_000, axis=0), np.repeat(FOUND.positions, 3_000, axis=0)
    many = SearchResult(scores, positions, np.repeat(FOUND.novelty, 3_000))
    asked = [columns[0]] * 3_000 + [None] * 3_000
    streamed = hits_response(collection, many, with_payload=False, as_npy=False, columns=asked)
    assert isinstance(streamed, StreamingResponse)
    results = orjson.loads(b"".join(await parts_of(streamed)))["results"]
    assert (results[0], results[-1]) == (first, second)
    embedded = embeddings_response(collection, EMBEDDINGS, "float", columns=columns)
    assert orjson.loads(embedded.body) == {"version": 1, "embeddings": EMBEDDINGS.tolist(), "columns": columns}
