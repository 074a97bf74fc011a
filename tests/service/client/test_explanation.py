from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from lookalike.service.client import AsyncClient, Client, MalformedResponse, NotFound, Unprocessable
from tests.service.helpers import pixels_of
from tests.service.process import Process, running
from tests.service.scripted import Line, scripted

PART: dict[str, Any] = {
    "part": "color",
    "kind": "field",
    "place": {},
    "a": "red",
    "b": None,
    "alike": 0.5,
    "apart": 0,
    "difference": 1.0,
}
ANSWER: dict[str, Any] = {"version": 1, "sequence": 0, "score": 0.5, "parts": [PART]}


@pytest.fixture(scope="module")
def server(store_folder: Path) -> Iterator[Process]:
    with running("serve", "--store", str(store_folder), "--port", "0") as process:
        yield process


def test_explains_items_and_a_query(server: Process) -> None:
    with Client(server.url) as client:
        items = client.explain(["0", "10"])
        query = client.explain(input=pixels_of("0")[0], id="10")
        assert items.parts == query.parts
        assert items.version == 1
        assert len(items.parts) == 16
        assert {part.kind for part in items.parts} == {"tile"}
        assert sum(part.apart for part in items.parts) == pytest.approx(1, abs=0.5)
        with pytest.raises(NotFound):
            client.explain(["0", "no item"])
        with pytest.raises(Unprocessable):
            client.explain(input=[1, 2], id="0")


@pytest.mark.anyio
async def test_the_async_client_gives_the_same(server: Process) -> None:
    with Client(server.url) as client:
        async with AsyncClient(server.url) as other:
            assert await other.explain(["0", "10"]) == client.explain(["0", "10"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "none"),
        ({"ids": ["a", "b"], "id": "a"}, "ids and id"),
        ({"input": [1]}, "input"),
        ({"input": [1], "image": b"x", "id": "a"}, "input and image and id"),
        ({"image": b"x"}, "found image"),
        ({"ids": ["a", "b"], "image": b"x"}, "ids and image"),
        ({"ids": ["a"]}, "a list of 1"),
        ({"ids": "ab"}, "'ab'"),
        ({"ids": ["a", "\ud800"]}, "surrogate"),
        ({"input": np.array([np.inf]), "id": "a"}, "infinity"),
    ],
)
def test_what_cannot_be_sent_is_a_value_error(arguments: dict[str, Any], words: str) -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(ValueError, match=words):
        client.explain(**arguments)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parts": []}, "parts"),
        ({"parts": {}}, "parts"),
        ({"score": "high"}, "score"),
        ({"version": 0}, "version"),
        ({"sequence": None}, "sequence"),
        ({"parts": [PART, 7]}, "parts[1]"),
        ({"parts": [PART | {"kind": "slice"}]}, "parts[0]"),
        ({"parts": [PART | {"place": None}]}, "parts[0]"),
        ({"parts": [PART | {"alike": None}]}, "parts[0].alike"),
    ],
)
def test_another_response_is_malformed(change: dict[str, Any], field: str) -> None:
    body = orjson.dumps(ANSWER | change)
    line = Line(200, {"Content-Type": "application/json"}, body)
    with scripted(line) as server, Client(server.url) as client, pytest.raises(MalformedResponse) as raised:
        client.explain(["a", "b"])
    assert raised.value.field == field
