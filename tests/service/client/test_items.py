"""The client's item calls, against a real process, an app, and a scripted server."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.versions.store import Store
from lookalike.service.app import create_app
from lookalike.service.client import (
    AsyncClient,
    Client,
    ClippedValue,
    ConnectionFailed,
    MalformedResponse,
    NotFound,
    Retries,
    Unprocessable,
    WriteResponse,
)
from lookalike.service.client.requests import JSON
from tests.service.changing import changing_store, with_maps
from tests.service.helpers import pixels_of, settings_for
from tests.service.process import running
from tests.service.scripted import DROP, Line, scripted

NEW = {"field": "kind", "equal": "new"}
ODD = ["a/b", "..", "ü?#%", " "]


@pytest.fixture(scope="module")
def client(store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client that sends parts of 7 items."""
    own = Path(shutil.copytree(store_folder, tmp_path_factory.mktemp("own") / "store"))
    with running("serve", "--store", str(own), "--port", "0") as server, Client(server.url, max_rows=7) as client:
        yield client


def put(client: Client, ids: list[str], shade: float = 0.0) -> WriteResponse:
    rows = pixels_of(*map(str, range(len(ids)))) + np.float32(shade)
    return client.put(ids, rows, [{"kind": "new", "n": n} for n in range(len(ids))])


def test_puts_gets_lists_and_deletes_items(client: Client) -> None:
    ids = [f"new {number:02}" for number in range(20)] + ODD
    done = put(client, ids)
    assert (done.version, done.count) == (1, len(ids))
    listed = list(client.items(NEW, page=5))
    assert [(item.id, item.payload["n"]) for item in listed] == sorted((name, n) for n, name in enumerate(ids))
    embeddings = client.embed(pixels_of(*map(str, range(len(ids))))).embeddings
    for name in ODD:
        item = client.get(name)
        assert (item.version, item.id, item.payload["kind"]) == (1, name, "new")
        np.testing.assert_allclose(item.embedding, embeddings[ids.index(name)], atol=1e-5)
        assert client.delete(name).count == 1
        for call in (client.get, client.delete):
            with pytest.raises(NotFound):
                call(name)
    done = client.delete_where(NEW)
    assert done.count == 20
    assert list(client.items(NEW, min_sequence=done.sequence)) == []
    assert len(list(client.items(page=100))) == 1437


def test_responses_contain_their_sequence_and_accept_min_sequence(client: Client) -> None:
    row = pixels_of("3")
    written = client.put(["one"], row)
    for query in ({"inputs": row}, {"inputs": row.tolist()}, {"ids": ["one"]}):
        assert client.search(**query, min_sequence=written.sequence).sequence == written.sequence
    assert client.get("one", min_sequence=written.sequence).sequence == written.sequence
    assert client.delete("one").sequence == written.sequence + 1


def test_puts_rows_as_lists_without_payloads(client: Client) -> None:
    client.put(["listed"], pixels_of("3").tolist())
    assert client.get("listed").payload == {}
    client.delete("listed")


def test_a_refused_later_part_names_the_row_and_keeps_the_earlier_parts(client: Client) -> None:
    rows = pixels_of(*map(str, range(10))).tolist()
    rows[8] = rows[8][:-1]
    ids = [f"part {number}" for number in range(10)]
    with pytest.raises(Unprocessable) as refused:
        client.put(ids, rows)
    assert refused.value.field == "items[8].input"
    assert [item.id for item in client.items() if item.id.startswith("part")] == ids[:7]
    assert [client.delete(name).count for name in ids[:7]] == [1] * 7


def test_raises_value_error_for_mistakes_found_before_sending(client: Client) -> None:
    rows = pixels_of("1", "2")
    wrong: list[tuple[Any, ...]] = [(["a"], rows), (["a", "a"], rows), ("ab", rows), (["a", "b"], rows, [{}])]
    for arguments in wrong:
        with pytest.raises(ValueError, match="expected"):
            client.put(*arguments)
    for call in (
        lambda name: client.put(["a", name], rows),
        client.get,
        client.delete,
        lambda name: client.search(ids=[name]),
    ):
        with pytest.raises(ValueError, match=r"U\+DC80 at position 4"):
            call("file\udc80")
    assert client.delete_where({"field": "label", "equal": -1}).count == 0


def test_an_id_may_be_any_text_without_control_characters(client: Client) -> None:
    name = "12\u202fh\u3000\u200d/%2F?\u2028\ufeff.png"
    put(client, [name])
    assert client.get(name).id == name
    assert name in [item.id for item in client.items()]
    assert client.search(ids=[name], limit=1).results[0].hits
    assert client.delete(name).count == 1
    with pytest.raises(Unprocessable, match=r"U\+0007 at position 3"):
        put(client, ["abc\a"])


@pytest.mark.anyio
async def test_the_async_client_does_the_same_and_searches_with_older_embeddings(tmp_path: Path) -> None:
    store: Store = changing_store(tmp_path)
    swap: NDArray[np.float32] = np.eye(4, dtype=np.float32)[[1, 0, 2, 3]]
    app = create_app(settings_for(store.folder), with_maps(store, {7: swap}))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        AsyncClient("http://localhost", max_rows=2, transport=transport) as client,
    ):
        rows = np.array([[9, 0, 0, 1], [0, 9, 0, 1], [0, 0, 9, 1]], np.float32)
        assert await client.put(["x", "y", "a/z"], rows, [{"kind": "new"}] * 3) == WriteResponse(1, 3, 3)
        assert [item.id async for item in client.items(NEW, page=1)] == ["a/z", "x", "y"]
        old = rows[:1] / np.linalg.norm(rows[0])
        for version, name in ((7, "y"), (1, "x"), (None, "x")):
            found = await client.search(embeddings=old, limit=1, filter=NEW, version=version)
            assert found.results[0].hits[0].id == name
        with pytest.raises(Unprocessable, match="1, 7"):
            await client.search(embeddings=old, version=6)
        np.testing.assert_allclose((await client.get("x")).embedding, old[0], atol=1e-6)
        assert await client.delete("a/z") == WriteResponse(1, 4, 1)
        assert await client.delete_where(NEW) == WriteResponse(1, 6, 2)


PUT = {"version": 1, "sequence": 5, "count": 1, "clipped": 0, "warnings": []}
WARNED = {"id": "a", "column": 3, "value": 3e38, "low": -21, "high": 21.5}


def written(**fields: Any) -> Line:
    return Line(200, {"Content-Type": JSON}, json.dumps(PUT | fields).encode())


def test_joins_the_warnings_of_several_calls() -> None:
    first, second = (written(clipped=30, count=2, warnings=[WARNED | {"id": name}] * 15) for name in "ab")
    with scripted(first, second) as server, Client(server.url, max_rows=2) as client:
        done = client.put(["a", "x", "b", "y"], [[1]] * 4)
    assert (done.count, done.clipped) == (4, 60)
    warned = ClippedValue("a", 3, 3e38, -21, 21.5)
    assert done.warnings == (warned,) * 15 + (dataclasses.replace(warned, id="b"),) * 5


BUSY = Line(503, {"Content-Type": "application/problem+json", "Retry-After": "0"}, b"{}")


@pytest.mark.parametrize("lost", [DROP, BUSY], ids=["no answer", "503"])
def test_retries_a_change_unmodified(lost: Line) -> None:
    with scripted(lost, written(), lost, written(), lost, written()) as server:
        with Client(server.url, sleep=lambda _: None) as client:
            client.put(["a"], [[1, 2]])
            client.delete("a/.b")
            client.delete_where(NEW)
        assert server.methods == ["PUT"] * 2 + ["DELETE"] * 4
        assert server.paths[2:4] == ["/items/a%2F%2Eb"] * 2
        assert server.bodies[0] == server.bodies[1] == b'{"items":[{"id":"a","input":[1,2]}]}'
        ids = [headers["x-request-id"] for headers in server.headers]
        assert ids[0] == ids[1] != ids[2] == ids[3]


def test_errors_do_not_contain_the_id() -> None:
    with scripted(DROP) as server, Client(server.url, retries=Retries(max_attempts=1)) as client:
        with pytest.raises(ConnectionFailed) as failed:
            client.get("the secret")
        assert "secret" not in str(failed.value)


CALLS: dict[str, Callable[[Client], Any]] = {
    "delete": lambda client: client.delete("a"),
    "get": lambda client: client.get("a"),
    "items": lambda client: list(client.items()),
    "put": lambda client: client.put(["a"], [[1]]),
}
PAGE = {"version": 1, "items": [{"id": "a", "payload": {}}], "next": None}
ITEM = {"version": 1, "id": "a", "payload": {}, "embedding": [1, 0.5]}


@pytest.mark.parametrize(
    ("call", "response", "field"),
    [
        *(("delete", {"version": 1, "sequence": value, "count": 1}, "sequence") for value in (None, -1, 1.0, True)),
        ("delete", {"version": 1, "sequence": 1}, "count"),
        ("delete", {"version": 0, "sequence": 1, "count": 1}, "version"),
        ("put", PUT | {"warnings": None}, "warnings"),
        *(("put", PUT | {"clipped": value}, "clipped") for value in (None, -1, 1.0, True)),
        *(("put", PUT | {"warnings": [WARNED, WARNED | {name: None}]}, "warnings[1]") for name in WARNED),
        ("put", PUT | {"warnings": [3]}, "warnings[0]"),
        ("put", PUT | {"warnings": [WARNED | {"column": True}]}, "warnings[0]"),
        ("get", ITEM | {"id": "b"}, "id"),
        *(("get", ITEM | {"embedding": value}, "embedding") for value in (None, [], [1, None], ["1"], [True])),
        ("get", ITEM | {"payload": []}, "payload"),
        ("items", PAGE | {"items": None}, "items"),
        ("items", PAGE | {"items": PAGE["items"] * 1_001}, "items"),  # type: ignore[operator]
        ("items", PAGE | {"items": [{"id": 3, "payload": {}}]}, "items[0].id"),
        ("items", PAGE | {"items": [{"id": "a"}]}, "items[0].payload"),
        ("items", PAGE | {"next": 3}, "next"),
        ("items", PAGE | {"items": [], "next": "a"}, "next"),
    ],
)
def test_names_the_wrong_field_of_an_item_response(call: str, response: dict[str, Any], field: str) -> None:
    line = Line(200, {"Content-Type": JSON}, json.dumps(response).encode())
    with scripted(line) as server, Client(server.url) as client, pytest.raises(MalformedResponse) as wrong:
        CALLS[call](client)
    assert wrong.value.field == field
