"""Items over a real socket, because the server decodes the path."""

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.ann.target import Target
from lookalike.index.changes.log import ChangeLog
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.service.api.response_models import ItemPage, ItemResponse, PutResponse, WriteResponse
from lookalike.service.app import create_app
from lookalike.service.parsing.bodies import NPY
from lookalike.service.serving.edits import DELETED_TOGETHER
from tests.factories import encoder_at, made_rows
from tests.service.changing import ROWS, changing_store, listening, listening_to, with_maps
from tests.service.helpers import answered, call, settings_for, to_npy

pytestmark = pytest.mark.anyio
NEW = [3.0, 0.0, 4.0, 0.0]
FILTER = {"field": "kind", "equal": "new"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return changing_store(tmp_path)


@pytest.fixture
async def client(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    async with listening_to(store) as (client, _):
        yield client


def path(name: str) -> str:
    return f"/items/{urllib.parse.quote(name, safe='')}"


async def put(client: httpx.AsyncClient, *items: dict[str, Any]) -> Any:
    answer = await client.put("/items", json={"items": items})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-lookalike-version"] == "1"
    PutResponse.model_validate(answer.json(), strict=True)
    return answer.json()


async def listed(client: httpx.AsyncClient, **query: Any) -> Any:
    answer = await client.get("/items", params=query)
    assert answer.status_code == 200, answer.text
    ItemPage.model_validate(answer.json(), strict=True)
    return answer.json()


async def nearest(client: httpx.AsyncClient, row: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await call(client, "/search", inputs=[row], limit=1))["results"][0]["hits"][0]
    return found


def unit(row: Any) -> NDArray[np.float64]:
    return np.asarray(row, np.float64) / np.linalg.norm(row)


async def test_what_was_put_is_durable_and_found_and_got(client: httpx.AsyncClient, store: Store) -> None:
    answer = await put(
        client, {"id": "a", "input": NEW, "payload": {"kind": "new"}}, {"id": "b", "input": [0, 0, 0, 1]}
    )
    assert answer == {"version": 1, "sequence": 2, "count": 2, "clipped": 0, "warnings": []}
    log = ChangeLog(store.folder)  # another reader of the same file
    (first, second) = log.read(0)
    log.close()
    assert [(one.id, one.payload, one.sequence) for one in (first, second)] == [
        ("a", '{"kind":"new"}', 1),
        ("b", "{}", 2),
    ]
    assert first.input is not None
    assert first.input.tolist() == NEW
    hit = await nearest(client, [6, 0, 8, 0])
    assert (hit["id"], hit["payload"]) == ("a", {"kind": "new"})
    assert hit["score"] == pytest.approx(1)
    got = (await client.get("/items/a")).json()
    ItemResponse.model_validate(got, strict=True)
    assert {name: got[name] for name in ("version", "id", "payload")} == {
        "version": 1,
        "id": "a",
        "payload": {"kind": "new"},
    }
    np.testing.assert_allclose(got["embedding"], [0.6, 0, 0.8, 0], atol=1e-6)


async def test_an_item_of_the_version_is_got_replaced_and_deleted(client: httpx.AsyncClient) -> None:
    got = (await client.get("/items/1-3")).json()
    np.testing.assert_allclose(got["embedding"], unit(ROWS[3]), atol=1e-6)
    assert got["payload"] == {"number": 3}
    assert (await put(client, {"id": "1-3", "input": NEW}))["sequence"] == 1
    got = (await client.get("/items/1-3")).json()
    assert got["payload"] == {}
    np.testing.assert_allclose(got["embedding"], [0.6, 0, 0.8, 0], atol=1e-6)
    assert (await nearest(client, ROWS[3].tolist()))["id"] != "1-3"
    assert (await client.delete("/items/1-3")).json() == {"version": 1, "sequence": 2, "count": 1}
    assert (await nearest(client, NEW))["id"] != "1-3"
    answered(await client.get("/items/1-3"), 404, "id")
    answered(await client.delete("/items/1-3"), 404, "id")
    assert len((await listed(client))["items"]) == len(ROWS) - 1


@pytest.mark.parametrize(
    "name",
    ["a/b", "/", "//", "a/", "../x", ".", "..", "?", "#", "%", "%2F", " ", "ü", "日本", "a+b", "a;b", "\U0001f600"],
)
async def test_an_id_in_a_path_may_be_any(client: httpx.AsyncClient, name: str) -> None:
    await put(client, {"id": name, "input": NEW, "payload": {"kind": "new"}})
    url = str(client.base_url).rstrip("/") + path(name).replace(".", "%2E")
    assert (await client.get(url)).json()["id"] == name
    (only,) = (await listed(client, filter=json.dumps(FILTER)))["items"]
    assert only == {"id": name, "payload": {"kind": "new"}}
    assert (await client.delete(url)).json()["count"] == 1
    answered(await client.get(url), 404, "id")


async def test_no_id_is_no_item_and_deletes_none(client: httpx.AsyncClient) -> None:
    answered(await client.get("/items/"), 404, "id")
    answered(await client.delete("/items/"), 404, "id")
    assert len((await listed(client))["items"]) == len(ROWS)


@pytest.mark.parametrize(
    ("path", "allowed"), [("/items", "DELETE, GET, HEAD, PUT"), ("/items/a", "DELETE, GET, HEAD"), ("/search", "POST")]
)
async def test_a_wrong_method_is_told_all_that_are_right(client: httpx.AsyncClient, path: str, allowed: str) -> None:
    answer = await client.patch(path)
    answered(answer, 405, "path")
    assert answer.headers["allow"] == allowed


async def test_pages_have_all_items_by_their_ids(client: httpx.AsyncClient) -> None:
    await put(client, *({"id": f"1-{number}x", "input": NEW, "payload": {"kind": "new"}} for number in range(5)))
    await client.delete("/items/1-7")
    expected = sorted({f"1-{i}" for i in range(len(ROWS))} - {"1-7"} | {f"1-{i}x" for i in range(5)})
    for limit in (1, 3, len(expected), 100):
        found, after, pages = list[str](), dict[str, str](), 0
        while True:
            page = await listed(client, limit=limit, **after)
            found += [item["id"] for item in page["items"]]
            pages += 1
            if page["next"] is None:
                break
            assert page["next"] == found[-1]
            after = {"after": page["next"]}
        assert found == expected
        assert pages == -(-len(expected) // limit)
    some = (await listed(client, filter=json.dumps({"field": "number", "range": {"gte": 18}})))["items"]
    assert some == [{"id": "1-18", "payload": {"number": 18}}, {"id": "1-19", "payload": {"number": 19}}]
    assert (await listed(client, after="~"))["items"] == []


async def test_all_that_pass_a_filter_are_deleted_and_no_other(client: httpx.AsyncClient) -> None:
    many = 2 * DELETED_TOGETHER + 3
    for start in range(0, many, 250):
        some = range(start, min(many, start + 250))
        await put(client, *({"id": f"n{n}", "input": NEW, "payload": {"kind": "new"}} for n in some))
    answer = await client.delete("/items", params={"filter": json.dumps(FILTER)})
    WriteResponse.model_validate(answer.json(), strict=True)
    assert answer.json() == {"version": 1, "sequence": 2 * many, "count": many}
    assert [item["id"] for item in (await listed(client))["items"]] == sorted(f"1-{i}" for i in range(len(ROWS)))
    answer = await client.delete("/items", params={"filter": json.dumps(FILTER)})
    assert answer.json() == {"version": 1, "sequence": 2 * many, "count": 0}
    answer = await client.delete("/items", params={"filter": json.dumps({"field": "number", "range": {"lt": 5}})})
    assert answer.json()["count"] == 5
    assert len((await listed(client))["items"]) == len(ROWS) - 5


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ({}, 422, "filter"),
        ({"filter": "null"}, 422, "filter"),
        ({"filter": "{}"}, 422, "filter"),
        ({"filter": ""}, 400, "filter"),
        ({"filter": '{"field": "none", "exists": true}'}, 422, "filter.field"),
        ({"filter": '{"field": "number", "exists": true}', "limit": "3"}, 422, "limit"),
        ({"filter": ['{"field": "number", "equal": 1}', '{"field": "number", "equal": 2}']}, 422, "filter"),
        ({"filtre": '{"field": "number", "equal": 1}'}, 422, "filtre"),
    ],
)
async def test_without_a_filter_that_is_understood_nothing_is_deleted(
    client: httpx.AsyncClient, query: dict[str, Any], status: int, field: str
) -> None:
    answered(await client.delete("/items", params=query), status, field)
    assert len((await listed(client))["items"]) == len(ROWS)


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        *(({"limit": limit}, 422, "limit") for limit in ("0", "-1", "101", "1.5", "", "three", "9" * 5_000)),
        ({"limit": ["1", "1"]}, 422, "limit"),
        ({"filter": "{"}, 400, "filter"),
        ({"filter": '{"field": "none", "equal": 1}'}, 422, "filter.field"),
        ({"offset": "3"}, 422, "offset"),
    ],
)
async def test_names_the_field_of_a_bad_page_request(
    client: httpx.AsyncClient, query: dict[str, Any], status: int, field: str
) -> None:
    answered(await client.get("/items", params=query), status, field)


BAD: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{", 400, "body"),
    "NaN": (b'{"items": [{"id": "a", "input": [1, 2, 3, NaN]}]}', 400, "body"),
    "no items": (b'{"items": []}', 422, "items"),
    "a wrong width": (b'{"items": [{"id": "a", "input": [1, 2, 3]}]}', 422, "items[0].input"),
    "too large a number": (b'{"items": [{"id": "a", "input": [1, 2, 3, 1e39]}]}', 422, "items[0].input"),
    "a bad id": (b'{"items": [{"id": "a\\n", "input": [1, 2, 3, 4]}]}', 422, "items[0].id"),
    "a bad payload": (b'{"items": [{"id": "a", "input": [1, 2, 3, 4], "payload": 3}]}', 422, "items[0].payload"),
    "too many": (json.dumps({"items": [{"id": str(n), "input": NEW} for n in range(301)]}).encode(), 413, "items"),
}


@pytest.mark.parametrize(("body", "status", "field"), BAD.values(), ids=BAD.keys())
async def test_of_a_bad_body_nothing_is_written(
    client: httpx.AsyncClient, store: Store, body: bytes, status: int, field: str
) -> None:
    answered(await client.put("/items", content=body), status, field)
    assert not (store.folder / "items.db").exists()


async def test_items_go_as_json_within_the_bounds_of_a_body(store: Store) -> None:
    async with listening_to(store, max_body_bytes=1_000) as (client, _):
        npy = {"Content-Type": "application/x-npy"}
        answered(await client.put("/items", content=to_npy(np.ones((1, 4))), headers=npy), 415, "Content-Type")
        answered(await client.put("/items", content=b" " * 1_001), 413, "body")


@pytest.mark.parametrize(
    ("matrix", "field"),
    [(np.ones((4, 4)), "items"), (np.eye(4), "items[1].input")],
    ids=["no number comes of it", "none that an index can compare"],
)
async def test_an_item_that_cannot_be_embedded_is_refused_with_all_beside_it(
    tmp_path: Path, matrix: NDArray[np.float64], field: str
) -> None:
    own = Store(tmp_path / "own")
    encoder = encoder_at(tmp_path / "encoder", matrix.astype(np.float32))
    own.promote(build(made_rows(ROWS), encoder, own, metric="l2", target=Target(key="Flat"), device="cpu"))
    async with listening_to(own) as (client, _):
        items = [{"id": "a", "input": NEW}, {"id": "b", "input": [3e38] * 4}]
        answered(await client.put("/items", json={"items": items}), 422, field)
        answered(await client.get("/items/a"), 404, "id")
        assert not (own.folder / "items.db").exists()


async def test_where_the_log_cannot_be_written_nothing_is_acknowledged(client: httpx.AsyncClient, store: Store) -> None:
    (store.folder / "items.db").mkdir()
    answer = await client.put("/items", json={"items": [{"id": "a", "input": NEW}]})
    answered(answer, 503, "items")
    assert answer.headers["retry-after"] == "1"
    assert str(store.folder) not in answer.text
    answered(await client.get("/items/a"), 404, "id")
    assert (await nearest(client, ROWS[0].tolist()))["id"] == "1-0"
    (store.folder / "items.db").rmdir()
    await put(client, {"id": "a", "input": NEW})
    assert (await client.get("/items/a")).status_code == 200


async def test_a_slow_write_gets_504_and_is_finished_later(store: Store) -> None:
    """Another process writes, so the service waits."""
    log = ChangeLog(store.folder)
    async with listening_to(store, deadline_seconds=0.2) as (client, serving):
        await put(client, {"id": "a", "input": NEW})
        connection = log._connection()
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        answered(await client.delete("/items/a"), 504, "request")
        connection.execute("ROLLBACK")
        for _ in range(500):
            if (await client.get("/items/a")).status_code == 404:
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("what was begun did not end")
        assert serving.current.collection.applied == 2
    log.close()


async def test_writers_at_once_each_have_what_they_wrote(client: httpx.AsyncClient) -> None:
    async def one(number: int) -> int:
        row = np.random.default_rng(1_000 + number).standard_normal(4).tolist()
        answer = await put(client, {"id": f"w{number}", "input": row, "payload": {"writer": number}})
        assert (await nearest(client, row))["id"] == f"w{number}"
        return int(answer["sequence"])

    assert sorted(await asyncio.gather(*map(one, range(40)))) == list(range(1, 41))
    assert len((await listed(client))["items"]) == len(ROWS) + 40


async def test_another_process_finds_a_put_item_within_a_moment(store: Store) -> None:
    async with listening_to(store) as (one, _), listening_to(store) as (other, _):
        await put(one, {"id": "a", "input": NEW})
        for _ in range(100):
            if (await other.get("/items/a")).status_code == 200:
                break
            await asyncio.sleep(0.02)
        assert (await nearest(other, NEW))["id"] == "a"
        assert (await other.delete("/items/a")).json()["sequence"] == 2
        for number in range(9):  # a deletion reads the log
            await put(one, {"id": "b", "input": NEW})
            assert (await other.delete("/items/b")).json()["sequence"] == 4 + 2 * number


async def test_a_read_includes_the_change_that_it_asks_for(store: Store) -> None:
    async with listening_to(store) as (one, _), listening_to(store) as (other, _):
        rows = to_npy(np.array([NEW], np.float32))
        for number in range(1, 6):
            done = await put(one, {"id": f"n{number}", "input": NEW})
            least = {"min_sequence": done["sequence"]}
            for answer in (
                await other.get(f"/items/n{number}", params=least),
                await other.get("/items", params=least),
                await other.post("/search", json={"inputs": [NEW], **least}),
                await other.post("/search", json={"ids": [f"n{number}"], **least}),
                await other.post("/search", content=rows, params=least, headers={"Content-Type": NPY}),
            ):
                assert answer.status_code == 200, answer.text
                assert answer.json()["sequence"] == number
                assert answer.headers["x-lookalike-sequence"] == str(number)


async def test_a_change_that_is_not_there_in_time_is_a_503(store: Store) -> None:
    async with listening_to(store, deadline_seconds=0.1) as (client, _):
        for answer in (
            await client.get("/items", params={"min_sequence": 1}),
            await client.get("/items/1-0", params={"min_sequence": 1}),
            await client.post("/search", json={"ids": ["1-0"], "min_sequence": 1}),
        ):
            answered(answer, 503, "items")
            assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("value", [-1, 1.5, "1", True, None, 2**63, 2**70])
async def test_a_sequence_number_that_can_be_none_is_refused(client: httpx.AsyncClient, value: Any) -> None:
    for asked in ({"ids": ["1-0"]}, {"inputs": [NEW]}):
        answered(await client.post("/search", json=asked | {"min_sequence": value}), 422, "min_sequence")
    if type(value) is not str:
        answered(await client.get("/items", params={"min_sequence": value}), 422, "min_sequence")


@pytest.fixture
async def mapped_client(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """Version 7 had two dimensions; its first is the third of version 1, which serves."""
    matrix = np.zeros((2, 4), np.float32)
    matrix[0, 2] = matrix[1, 0] = 1
    app = create_app(settings_for(store.folder), with_maps(store, {7: matrix}))
    async with listening(app) as client:
        yield client


async def test_embeddings_of_an_older_version_are_mapped_before_the_search(mapped_client: httpx.AsyncClient) -> None:
    client = mapped_client
    await put(client, {"id": "a", "input": NEW})
    old, now = [4.0, 3.0], [0.6, 0.0, 0.8, 0.0]
    expected = (await call(client, "/search", embeddings=[now]))["results"]
    assert expected[0]["hits"][0]["id"] == "a"
    for rows, number in (([old], 7), ([now], 1)):
        assert (await call(client, "/search", embeddings=rows, version=number))["results"] == expected
        npy = await client.post(
            "/search",
            params={"kind": "embeddings", "version": number},
            content=to_npy(np.array(rows)),
            headers={"Content-Type": "application/x-npy"},
        )
        assert npy.json()["results"] == expected


@pytest.mark.parametrize("number", [0, 2, 8, -1])
async def test_of_an_unknown_version_it_says_which_are_known(mapped_client: httpx.AsyncClient, number: int) -> None:
    npy = {"Content-Type": "application/x-npy"}
    by_json = await mapped_client.post("/search", json={"embeddings": [[1, 2]], "version": number})
    query = f"/search?kind=embeddings&version={number}"
    by_npy = await mapped_client.post(query, content=to_npy(np.ones((1, 2))), headers=npy)
    for answer in (by_json, by_npy):
        answered(answer, 422, "version")
        assert answer.json()["expected"] == "a version whose embeddings are known: 1, 7"


@pytest.mark.parametrize("query", ["version=7", "kind=embeddings&version=", "kind=embeddings&version=1.5"])
async def test_a_version_goes_with_embeddings_and_is_a_number(mapped_client: httpx.AsyncClient, query: str) -> None:
    npy = {"Content-Type": "application/x-npy"}
    answered(await mapped_client.post(f"/search?{query}", content=to_npy(np.ones((1, 4))), headers=npy), 422, "version")


async def test_embeddings_that_no_index_can_compare_once_mapped_are_refused(store: Store) -> None:
    app = create_app(settings_for(store.folder), with_maps(store, {7: np.full((2, 4), 1e3, np.float32)}))
    async with listening(app) as client:
        answered(await client.post("/search", json={"embeddings": [[3e38, 3e38]], "version": 7}), 422, "embeddings")


async def test_embeddings_of_another_version_are_of_its_dimension(mapped_client: httpx.AsyncClient) -> None:
    for number, width in ((7, 4), (1, 2)):
        answer = await mapped_client.post("/search", json={"embeddings": [[1] * width], "version": number})
        answered(answer, 422, "embeddings")


@pytest.mark.parametrize("name", ["a%ff", "a%FE", "%e9", "%ed%a0%80", "%c3"])
async def test_a_path_that_is_no_utf8_names_no_item(client: httpx.AsyncClient, name: str) -> None:
    """The server replaces the bytes by U+FFFD, and an item may have that id."""
    await put(client, {"id": "a\ufffd", "input": ROWS[0].tolist()}, {"id": "\ufffd", "input": ROWS[0].tolist()})
    answered(await client.get(f"/items/{name}"), 400, "path")
    answered(await client.delete(f"/items/{name}"), 400, "path")
    assert (await client.head(f"/items/{name}")).status_code == 400
    answered(await client.get(f"/items?after={name}"), 400, "query")
    answered(await client.delete(f"/items?filter={name}"), 400, "query")
    for known in ("a%EF%BF%BD", "%EF%BF%BD"):
        assert (await client.get(f"/items/{known}")).status_code == 200


async def test_a_put_warns_of_the_values_that_the_encoder_clips_and_they_do_no_more_than_the_end_of_its_range(
    tmp_path: Path,
) -> None:
    """The encoder was fitted on -1 to 1, and accepts ten widths more: -21 to 21."""
    store = Store(tmp_path / "store")
    encoder = encoder_at(tmp_path / "encoder", np.eye(4, dtype=np.float32), fitted=1)
    build(made_rows(ROWS), encoder, store, target=Target(key="Flat"), device="cpu")
    store.promote(1)
    async with listening_to(store) as (client, _):
        assert (await put(client, {"id": "in", "input": [-21, 21, 0, 1]}))["warnings"] == []
        answer = await put(
            client,
            {"id": "good", "input": [1, 0, 0, 1]},
            {"id": "evil", "input": [1, 3e38, 0, -3e38]},
            {"id": "odd", "input": [21.5, 0, 0, 1]},
        )
        assert answer == {
            "version": 1,
            "sequence": 4,
            "count": 3,
            "clipped": 3,
            "warnings": [
                {"id": "evil", "column": 1, "value": 3e38, "low": -21, "high": 21},
                {"id": "evil", "column": 3, "value": -3e38, "low": -21, "high": 21},
                {"id": "odd", "column": 0, "value": 21.5, "low": -21, "high": 21},
            ],
        }
        embedding = (await client.get("/items/evil")).json()["embedding"]
        np.testing.assert_allclose(embedding, unit([1, 21, 0, -21]), atol=1e-6)
        many = await put(client, *({"id": f"n{number}", "input": [1e9] * 4} for number in range(10)))
        assert many["clipped"] == 40
        assert [(one["id"], one["column"]) for one in many["warnings"]] == [
            (f"n{number}", column) for number in range(5) for column in range(4)
        ]
