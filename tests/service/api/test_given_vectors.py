"""The service of a version without an encoder, over a real socket."""

from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.service.client import AsyncClient
from lookalike.service.parsing.bodies import NPY
from lookalike.training.artifact.given_vectors import write_vectors
from tests.factories import cloud, made_rows
from tests.photos import photo
from tests.service.changing import listening_to
from tests.service.helpers import answered, call, problem, to_npy

pytestmark = pytest.mark.anyio
VECTORS = cloud(20, 4)
NEW = [3.0, 0.0, 4.0, 0.0]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    store, rows = Store(tmp_path / "store"), made_rows(VECTORS)
    (tmp_path / "encoder").mkdir()
    write_vectors(tmp_path / "encoder", rows, directions=True)
    store.promote(build(rows, tmp_path / "encoder", store, target=Target(key="Flat"), device="cpu"))
    async with listening_to(store) as (client, _):
        yield client


async def test_is_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).json() == {"ready": True, "version": 1, "refused": None}
    assert (await client.get("/version")).json()["data"]["shape"] == [4]


async def test_searches_with_embeddings_and_ids(client: httpx.AsyncClient) -> None:
    answer = await call(client, "/search", embeddings=[(7 * VECTORS[3]).tolist()], limit=2)
    hit = answer["results"][0]["hits"][0]
    assert hit["id"] == "row-3"
    assert hit["score"] == pytest.approx(1, abs=1e-6)
    by_id = await call(client, "/search", ids=["row-3"], limit=1)
    assert by_id["results"][0]["hits"] == answer["results"][0]["hits"][1:]
    npy = await client.post(
        "/search?kind=embeddings&limit=2", content=to_npy(VECTORS[3:4]), headers={"Content-Type": NPY}
    )
    assert [hit["id"] for hit in npy.json()["results"][0]["hits"]] == [
        hit["id"] for hit in answer["results"][0]["hits"]
    ]


async def test_refuses_inputs_and_names_what_to_send(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.post("/search", json={"inputs": [NEW]}),
        await client.post("/search", json={"inputs": [["text"]]}),
        await client.post("/search", content=to_npy(VECTORS[:1]), headers={"Content-Type": NPY}),
    ):
        members = problem(answer, 422)
        assert members["field"] == "inputs"
        assert members["expected"] == "embeddings, because this version has no encoder"
        assert "Send the vectors as `embeddings`, or the ids of items as `ids`." in members["detail"]
    for answer in (
        await client.post("/embed", json={"inputs": [NEW]}),
        await client.post("/embed", content=to_npy(VECTORS[:1]), headers={"Content-Type": NPY}),
    ):
        members = problem(answer, 422)
        assert "send them to POST /search as `embeddings`" in members["detail"]
    for body in ({"ids": ["row-1", "row-2"]}, {"input": NEW, "id": "row-1"}):
        members = problem(await client.post("/explain", json=body), 422)
        assert members["field"] == "version"
        assert members["found"] == "a version of existing embeddings"
    picture = photo((1, 2, 3), "JPEG")
    images, form = (
        [b64encode(picture).decode()],
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n',
    )
    form += picture + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for answer in (
        await client.post("/search", json={"images": images}),
        await client.post("/search", content=picture, headers={"Content-Type": "image/jpeg"}),
        await client.post("/search", content=form, headers=kind),
        await client.post("/embed", json={"images": images}),
        await client.put("/items?id=a", content=picture, headers={"Content-Type": "image/jpeg"}),
        await client.put("/items", content=form, headers=kind),
    ):
        members = problem(answer, 422)
        assert members["expected"] == "embeddings, because this version has no encoder"


@pytest.mark.parametrize("payload", [{"kind": "new"}, {"kind": ["new"]}], ids=["plain", "with a list"])
async def test_puts_items_by_their_embeddings(client: httpx.AsyncClient, payload: dict[str, Any]) -> None:
    item = {"id": "a", "embedding": NEW, "payload": payload}
    answer = await client.put("/items", json={"items": [item]})
    assert answer.json() == {"version": 1, "sequence": 1, "count": 1, "clipped": 0, "warnings": []}
    got = (await client.get("/items/a")).json()
    np.testing.assert_allclose(got["embedding"], [0.6, 0, 0.8, 0], atol=1e-6)
    assert got["payload"] == payload
    found = await call(client, "/search", embeddings=[NEW], limit=1)
    assert found["results"][0]["hits"][0]["id"] == "a"
    assert (await client.delete("/items/a")).json()["count"] == 1


@pytest.mark.parametrize(
    ("item", "field", "found"),
    [
        ({"id": "a", "input": NEW}, "items[0].input", "a value"),
        ({"id": "a", "input": NEW, "embedding": NEW}, "items[0].input", "a value"),
        ({"id": "a"}, "items[0].embedding", "nothing"),
        ({"id": "a", "embedding": NEW[:3]}, "items[0].embedding", "a list of 3"),
        ({"id": "a", "embedding": [0, 0, 0, 0]}, "items[0].embedding", "zeros only"),
        ({"id": "a", "embedding": [1, None, 0, 0]}, "items[0].embedding", "null at value 1"),
        ({"id": "a", "embedding": [1e39, 0, 0, 0]}, "items[0].embedding", "NaN, infinity"),
    ],
)
async def test_names_what_is_wrong_with_an_item(
    client: httpx.AsyncClient, item: dict[str, Any], field: str, found: str
) -> None:
    answer = await client.put("/items", json={"items": [item]})
    answered(answer, 422, field)
    assert answer.json()["found"].startswith(found)
    answered(await client.get("/items/a"), 404, "id")


async def test_the_client_puts_embeddings(client: httpx.AsyncClient) -> None:
    async with AsyncClient(str(client.base_url)) as ours:
        done = await ours.put(["a", "b"], embeddings=np.array([NEW, NEW], np.float32), payloads=[{}, {"n": 1}])
        assert done.count == 2
        found = await ours.search(embeddings=np.array([NEW], np.float32), limit=2)
        assert [hit.id for hit in found.results[0].hits] == ["a", "b"]
        with pytest.raises(ValueError, match="expected exactly one of inputs, images and embeddings"):
            await ours.put(["a"])
