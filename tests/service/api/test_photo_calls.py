"""Calls with photos, over HTTP, against a version whose encoder reads photos."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lookalike.index.changes.compact import compact
from lookalike.index.versions.store import Store
from tests.photos import COLORS, photo, photo_store, row_of, size_of
from tests.service.changing import listening_to, until
from tests.service.helpers import JSON, answered, call, from_npy, to_npy

pytestmark = pytest.mark.anyio

PNG = photo(COLORS["03.png"])
FORM = [("a", ("x.png", PNG, "image/png")), ("b", ("y", photo(COLORS["05.png"]), "application/octet-stream"))]


def base64(content: bytes) -> str:
    return b64encode(content).decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Read only."""
    return photo_store(tmp_path_factory.mktemp("photos"))


@pytest.fixture
async def client(shared: Store) -> AsyncIterator[httpx.AsyncClient]:
    async with listening_to(shared, max_rows=5, max_pixels=10_000) as (client, _):
        client.headers.pop("Content-Type")
        yield client


@pytest.fixture
async def changing(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Store]]:
    store = photo_store(tmp_path)
    async with listening_to(store, max_rows=5, max_pixels=10_000) as (client, _):
        client.headers.pop("Content-Type")
        yield client, store


async def best(client: httpx.AsyncClient, **request: Any) -> list[str]:
    """The nearest item of each query, whose distance is nearly 0."""
    answer = await client.post("/search", **request)
    assert answer.status_code == 200, answer.text
    hits = [result["hits"][0] for result in answer.json()["results"]]
    assert max(hit["score"] for hit in hits) < 12
    return [hit["id"] for hit in hits]


async def test_decoding_and_searching_have_one_deadline(shared: Store) -> None:
    """Each of the two steps would be in time alone."""
    async with listening_to(shared, deadline_seconds=0.5) as (client, serving):
        read, search, embed = serving.photos.read, serving.current.engine.search, serving.current.engine.embed

        def slow(step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def wait(*arguments: Any, **options: Any) -> Any:
                await asyncio.sleep(0.3)
                return await step(*arguments, **options)

            return wait

        vars(serving.photos)["read"] = slow(read)
        vars(serving.current.engine).update(search=slow(search), embed=slow(embed))
        for path in ("/search", "/embed"):
            answer = await client.post(path, content=PNG, headers={"Content-Type": "image/png"})
            answered(answer, 504, "request")
            assert answer.json()["expected"] == "an answer in 0.5 s"


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
async def test_a_photo_is_a_query(client: httpx.AsyncClient, kind: str) -> None:
    content = photo(COLORS["07.png"], kind.upper())
    given: dict[str, Any] = {"content": content, "headers": {"Content-Type": f"image/{kind}"}}
    assert await best(client, params={"limit": 1}, **given) == ["07.png"]
    embedded = await client.post("/embed", **given)
    np.testing.assert_allclose(embedded.json()["embeddings"], [row_of(COLORS["07.png"])], atol=3)


async def test_the_files_of_a_form_are_queries(client: httpx.AsyncClient) -> None:
    assert await best(client, files=FORM, params={"limit": 2, "with_payload": "false"}) == ["03.png", "05.png"]
    embedded = await client.post("/embed", files=FORM, headers={"Accept": "application/x-npy"})
    np.testing.assert_array_equal(from_npy(embedded.content), [row_of(COLORS["03.png"]), row_of(COLORS["05.png"])])


async def test_base64_in_json_has_the_same_options_as_rows(client: httpx.AsyncClient) -> None:
    fields = {"images": [base64(PNG)], "limit": 2, "filter": {"field": "file", "in": ["00.png", "01.png"]}}
    answer = await client.post("/search", json=fields)
    assert [hit["id"] for hit in answer.json()["results"][0]["hits"]] == ["01.png", "00.png"]
    rows = await client.post("/embed", json={"inputs": [row_of(COLORS["03.png"]).tolist()]})
    assert (await client.post("/embed", json={"images": [base64(PNG)]})).json() == rows.json()


async def test_a_photo_and_its_row_have_the_same_answer(client: httpx.AsyncClient) -> None:
    row = {"inputs": [row_of(COLORS["03.png"]).tolist()], "limit": 5}
    assert (await client.post("/search", json=row)).json() == (
        await client.post("/search", json={"images": [base64(PNG)], "limit": 5})
    ).json()


MANY = [("f", (f"{number}.png", PNG, "image/png")) for number in range(6)]


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        ({"content": PNG, "headers": {"Content-Type": "image/tiff"}}, 415, "Content-Type"),
        ({"content": PNG, "headers": {"Content-Type": "image/png", "Content-Encoding": "gzip"}}, 415, "Content-"),
        ({"content": PNG[:45], "headers": {"Content-Type": "image/png"}}, 422, "body"),
        ({"content": b"", "headers": {"Content-Type": "image/png"}}, 422, "body"),
        ({"content": photo((1, 2, 3), size=(101, 100)), "headers": {"Content-Type": "image/png"}}, 422, "body"),
        ({"content": PNG, "headers": {"Content-Type": "image/png"}, "params": {"limit": 0}}, 422, "limit"),
        ({"content": PNG, "headers": {"Content-Type": "image/png"}, "params": {"limit": 999}}, 422, "limit"),
        ({"content": PNG, "headers": {"Content-Type": "image/png"}, "params": {"kind": "embeddings"}}, 422, "kind"),
        ({"content": PNG, "headers": {"Content-Type": "image/png"}, "params": {"version": 1}}, 422, "version"),
        ({"content": PNG, "headers": {"Content-Type": "image/png"}, "params": {"colour": 1}}, 422, "colour"),
        ({"content": b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 422, "files"),
        ({"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "body"),
        ({"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}}, 400, "Content-Type"),
        ({"files": [*FORM, ("c", ("broken.png", b"x", "image/png"))]}, 422, "files[2] broken.png"),
        ({"files": FORM, "data": {"limit": "3"}}, 422, "limit"),
        ({"files": MANY}, 413, "files"),
        ({"json": {"images": []}}, 422, "images"),
        ({"json": {"images": [base64(PNG), 3]}}, 422, "images[1]"),
        ({"json": {"images": [base64(PNG), "%"]}}, 422, "images[1]"),
        ({"json": {"images": [base64(PNG)] * 6}}, 413, "images"),
        ({"json": {"images": base64(PNG)}}, 422, "images"),
        ({"json": {"images": [base64(PNG)], "ids": ["03.png"]}}, 422, "inputs, embeddings, ids, images"),
        ({"json": {"images": [base64(PNG)], "version": 1}}, 422, "version"),
    ],
)
async def test_names_what_is_wrong(client: httpx.AsyncClient, request_: Any, status: int, field: str) -> None:
    answered(await client.post("/search", **request_), status, field)


async def test_embed_needs_exactly_one_of_inputs_and_images(client: httpx.AsyncClient) -> None:
    row = row_of((1, 2, 3)).tolist()
    for fields in ({}, {"inputs": [row], "images": [base64(PNG)]}):
        answered(await client.post("/embed", json=fields), 422, "inputs, images")


@pytest.mark.parametrize(
    "request_",
    [
        {"content": PNG, "headers": {"Content-Type": "image/png"}},
        {"content": to_npy(row_of(COLORS["03.png"])[None]), "headers": {"Content-Type": "application/x-npy"}},
        {"files": FORM[:1]},
    ],
)
async def test_the_query_string_of_embed_names_the_form(client: httpx.AsyncClient, request_: Any) -> None:
    plain = (await client.post("/embed", **request_)).json()["embeddings"]
    answer = await client.post("/embed", params={"encoding_format": "base64"}, **request_)
    encoded = np.frombuffer(b64decode(answer.json()["embeddings"][0]), np.float32)
    np.testing.assert_array_equal(encoded, np.array(plain[0], np.float32))
    answered(await client.post("/embed", params={"encoding_format": 3}, **request_), 422, "encoding_format")
    answered(await client.post("/embed", params={"limit": 3}, **request_), 422, "limit")


async def test_an_encoder_of_other_rows_refuses_photos(tiny_store: Store) -> None:
    async with listening_to(tiny_store) as (client, _):
        client.headers.pop("Content-Type")
        alone = {"content": PNG, "headers": {"Content-Type": "image/png"}}
        for given in (alone, {"files": FORM}, {"json": {"images": [base64(PNG)]}}):
            for path in ("/search", "/embed"):
                answer = await client.post(path, **given)
                answered(answer, 422, "images" if "json" in given else "body")
                assert "rows of shape (8, 8)" in answer.text
        answered(await client.get("/items/0/preview"), 404, "id")


async def test_a_form_of_another_origin_is_refused(client: httpx.AsyncClient) -> None:
    """A browser sends it without asking first."""
    for origin in ("https://example.org", "null"):
        answered(await client.post("/search", files=FORM, headers={"Origin": origin}), 403, "Origin")
    answered(await client.post("/admin/reload", files=FORM), 415, "Content-Type")


PUTS = {
    "json": {"json": {"items": [{"id": "new", "image": base64(PNG), "payload": {"a": 1}}]}},
    "a photo": {
        "content": PNG,
        "headers": {"Content-Type": "image/png"},
        "params": {"id": "new", "payload": json.dumps({"a": 1})},
    },
    "a form": {"files": [("f", ("x.png", PNG, "image/png"))], "data": {"ids": '["new"]', "payloads": '[{"a": 1}]'}},
}


@pytest.mark.parametrize("given", PUTS.values(), ids=PUTS.keys())
async def test_puts_an_item_with_its_preview(changing: tuple[httpx.AsyncClient, Store], given: Any) -> None:
    client, store = changing
    answer = await client.put("/items", **given)
    assert (answer.status_code, answer.json()["count"]) == (200, 1), answer.text
    item = (await client.get("/items/new")).json()
    assert item["payload"] == {"a": 1}
    np.testing.assert_array_equal(item["embedding"], row_of(COLORS["03.png"]))
    small = await client.get("/items/new/preview")
    assert size_of(small.content) == ("WEBP", (12, 8))
    compact(store)
    await until(lambda: _serves(client, 2))
    assert (await client.get("/items/new/preview")).content == small.content


async def _serves(client: httpx.AsyncClient, number: int) -> bool:
    return bool((await client.get("/readyz")).json()["version"] == number)


async def test_a_file_is_an_item_with_its_name_as_id(changing: tuple[httpx.AsyncClient, Store]) -> None:
    client, _ = changing
    assert (await client.put("/items", files=FORM)).json()["count"] == 2
    assert (await client.get("/items/y")).json()["payload"] == {}
    assert (await client.get("/items/x.png/preview")).status_code == 200


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        ({"content": PNG, "headers": {"Content-Type": "image/png"}}, 422, "items[0].id"),
        ({"content": PNG, "headers": {"Content-Type": "image/png"}, "params": {"id": "a", "limit": 1}}, 422, "limit"),
        ({"content": PNG, "headers": {"Content-Type": "image/gif"}, "params": {"id": "a"}}, 415, "Content-Type"),
        ({"content": PNG, "headers": {"Content-Type": "application/x-npy"}}, 415, "Content-Type"),
        ({"content": PNG[:45], "headers": {"Content-Type": "image/png"}, "params": {"id": "a"}}, 422, "body"),
        ({"files": FORM, "params": {"id": "a"}}, 422, "id"),
        ({"files": FORM, "data": {"ids": '["a"]'}}, 422, "ids"),
        ({"files": FORM, "data": {"ids": '["a", 3]'}}, 422, "ids[1]"),
        ({"files": FORM, "data": {"ids": '["a", "a"]'}}, 422, "items[1].id"),
        ({"files": FORM, "data": {"ids": "a"}}, 400, "ids"),
        ({"files": FORM, "data": {"payloads": "[{}, 3]"}}, 422, "payloads[1]"),
        ({"files": FORM, "data": {"payloads": "{}"}}, 422, "payloads"),
        ({"files": FORM, "data": {"ids": "[" + "0," * 2_000_000 + "0]"}}, 413, "ids"),
        ({"files": FORM, "data": {"payloads": "[" + "{}," * 500_000 + "{}]"}}, 413, "payloads"),
        ({"files": FORM, "data": {"payloads": "[" + "[]," * 500_000 + "[]]"}}, 413, "payloads"),
        ({"files": FORM, "data": {"colour": "{}"}}, 422, "colour"),
        ({"data": {"ids": "[]"}, "files": {}}, 415, "Content-Type"),
        ({"files": [("f", ("x.png", b"", "image/png"))]}, 422, "files[0] x.png"),
        ({"files": MANY}, 413, "files"),
        ({"json": {"items": [{"id": "a", "image": "%"}]}}, 422, "items[0].image"),
        ({"json": {"items": [{"id": "a", "image": 3}]}}, 422, "items[0].image"),
        ({"json": {"items": [{"id": "a", "image": base64(PNG), "input": [1]}]}}, 422, "items"),
        ({"json": {"items": [{"id": "a", "image": base64(PNG)}, {"id": "b", "input": [1] * 12}]}}, 422, "items"),
        ({"json": {"items": [{"id": "a", "image": base64(PNG)}, {"id": "b"}]}}, 422, "items[1].input"),
    ],
)
async def test_names_what_is_wrong_with_items(
    client: httpx.AsyncClient, request_: Any, status: int, field: str
) -> None:
    answered(await client.put("/items", **request_), status, field)
    assert (await client.get("/items", params={"limit": 20})).json()["sequence"] == 0


async def test_explains_a_photo_and_an_item(client: httpx.AsyncClient) -> None:
    explained = await call(client, "/explain", image=base64(PNG), id="05.png")
    by_input = await call(client, "/explain", input=row_of(COLORS["03.png"]).tolist(), id="05.png")
    by_ids = await call(client, "/explain", ids=["03.png", "05.png"])
    assert explained == by_input == by_ids
    assert explained["score"] > 0


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"image": base64(PNG[:45]), "id": "05.png"}, 422, "image"),
        ({"image": "no base64", "id": "05.png"}, 422, "image"),
        ({"image": "", "id": "05.png"}, 422, "image"),
        ({"image": base64(photo((1, 2, 3), size=(101, 100))), "id": "05.png"}, 422, "image"),
        ({"image": 7, "id": "05.png"}, 422, "image"),
        ({"image": base64(PNG), "id": "none"}, 404, "id"),
        ({"image": base64(PNG)}, 422, "ids, input, image, id"),
        ({"image": base64(PNG), "input": [0] * 12}, 422, "ids, input, image, id"),
        ({"image": base64(PNG), "input": [0] * 12, "id": "05.png"}, 422, "ids, input, image, id"),
        ({"image": base64(PNG), "ids": ["03.png", "05.png"]}, 422, "ids, input, image, id"),
    ],
)
async def test_names_what_is_wrong_with_an_explanation(
    client: httpx.AsyncClient, body: Any, status: int, field: str
) -> None:
    answered(await client.post("/explain", json=body), status, field)


async def test_a_preview_has_version_sequence_and_an_etag(client: httpx.AsyncClient) -> None:
    first = await client.get("/items/03.png/preview")
    assert (first.status_code, first.headers["content-type"]) == (200, "image/webp")
    assert (first.headers["x-lookalike-version"], first.headers["x-lookalike-sequence"]) == ("1", "0")
    assert first.headers["cache-control"] == "private, no-cache"
    assert "content-encoding" not in first.headers
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await client.get("/items/03.png/preview", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["x-lookalike-version"] == "1"
    assert (await client.get("/items/03.png/preview", headers={"If-None-Match": '"other"'})).content == first.content
    assert (await client.get("/items/04.png/preview")).headers["etag"] != tag


async def test_no_preview_is_a_404(changing: tuple[httpx.AsyncClient, Store]) -> None:
    client, _ = changing
    answered(await client.get("/items/none/preview"), 404, "id")
    row = row_of((1, 2, 3)).tolist()
    assert (await client.put("/items", json={"items": [{"id": "03.png", "input": row}]})).status_code == 200
    answered(await client.get("/items/03.png/preview"), 404, "id")
    assert (await client.delete("/items/04.png")).status_code == 200
    answered(await client.get("/items/04.png/preview"), 404, "id")
    answered(await client.get("/items/05.png/preview", params={"min_sequence": "x"}), 422, "min_sequence")


async def test_an_id_may_end_with_preview(changing: tuple[httpx.AsyncClient, Store]) -> None:
    client, _ = changing
    ids = ["a", "a/preview", "preview"]
    colors = [COLORS["00.png"], COLORS["01.png"], COLORS["02.png"]]
    items = [{"id": name, "image": base64(photo(color))} for name, color in zip(ids, colors, strict=True)]
    assert (await client.put("/items", json={"items": items})).status_code == 200
    assert (await client.get("/items/a%2Fpreview")).json()["id"] == "a/preview"
    assert (await client.get("/items/preview")).json()["id"] == "preview"
    of_a, of_other = await client.get("/items/a/preview"), await client.get("/items/a%2Fpreview/preview")
    assert of_a.headers["content-type"] == of_other.headers["content-type"] == "image/webp"
    assert of_a.content != of_other.content
    assert of_other.content == (await client.get("/items/a/preview/preview")).content
    assert (await client.delete("/items/a%2Fpreview")).json()["count"] == 1


async def test_puts_no_preview_into_a_version_without_previews(tmp_path: Path) -> None:
    store = photo_store(tmp_path, previews=False)
    async with listening_to(store) as (client, _):
        put = await client.put("/items", json={"items": [{"id": "a", "image": base64(PNG)}]})
        assert put.status_code == 200
        answered(await client.get("/items/a/preview"), 404, "id")
        assert client.headers["Content-Type"] == JSON
