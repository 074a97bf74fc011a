import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.index.versions.embed import embed_to_npy
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.api.response_models import EmbedResponse, ReadyResponse, SearchResponse
from lookalike.training.rows import open_rows
from tests.factories import window_rows
from tests.service.helpers import (
    JSON,
    NPY,
    answered,
    assert_nearest,
    call,
    from_npy,
    pixels_of,
    problem,
    serving,
    settings_for,
    to_npy,
)

pytestmark = pytest.mark.anyio
Rows2D = NDArray[np.float32]
Truth = dict[str, Rows2D]
OTHERS = ["3", "7", "11"]
"""Ids of digits."""


def same_hits(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert [hit["id"] for hit in one] == [hit["id"] for hit in other]
    np.testing.assert_allclose([hit["score"] for hit in one], [hit["score"] for hit in other], atol=1e-5)


async def test_embeddings_are_those_of_the_command_line(
    client: httpx.AsyncClient, version: Version, tmp_path: Path
) -> None:
    embed_to_npy(open_rows("digits:test"), version.encoder, version.metric, tmp_path / "E.npy")
    rows = next(open_rows("digits:test").chunks(300)).inputs
    answer = await call(client, "/embed", inputs=rows.tolist())
    EmbedResponse.model_validate(answer, strict=True)
    np.testing.assert_allclose(answer["embeddings"], np.load(tmp_path / "E.npy")[:300], atol=1e-5)


@pytest.mark.parametrize("content_type", [JSON, NPY])
@pytest.mark.parametrize("accept", [JSON, NPY, "*/*"])
@pytest.mark.parametrize("shape", [(3, 64), (3, 8, 8)])
async def test_embed_accepts_and_returns_json_and_npy(
    client: httpx.AsyncClient, version: Version, content_type: str, accept: str, shape: tuple[int, ...]
) -> None:
    rows = pixels_of(*OTHERS).reshape(shape)
    body = to_npy(rows) if content_type == NPY else json.dumps({"inputs": rows.tolist()}).encode()
    answer = await client.post("/embed", content=body, headers={"Content-Type": content_type, "Accept": accept})
    assert answer.headers["content-type"] == (NPY if accept == NPY else JSON)
    given = from_npy(answer.content) if accept == NPY else answer.json()["embeddings"]
    np.testing.assert_allclose(given, version.embed(pixels_of(*OTHERS)), atol=1e-5)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_json_is_known_by_its_media_type(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/search", content=b'{"ids": ["0"]}', headers={"Content-Type": content_type})
    assert answer.status_code == 200


@pytest.mark.parametrize("limit", [1, 10, 100])
async def test_search_finds_the_nearest_best_first(client: httpx.AsyncClient, truth: Truth, limit: int) -> None:
    by_input = await call(client, "/search", inputs=pixels_of(*OTHERS).tolist(), limit=limit)
    queries = (await call(client, "/embed", inputs=pixels_of(*OTHERS).tolist()))["embeddings"]
    by_embedding = await call(client, "/search", embeddings=queries, limit=limit)
    for answer in (by_input, by_embedding):
        SearchResponse.model_validate(answer, strict=True)
        for query, found in zip(queries, answer["results"], strict=True):
            assert len(found["hits"]) == limit
            assert_nearest(found["hits"], np.array(query), truth)


async def test_search_by_ids_never_finds_the_item_itself(client: httpx.AsyncClient, truth: Truth) -> None:
    ids = [*list(truth)[:100], next(iter(truth))]
    answer = await call(client, "/search", ids=ids, limit=5)
    for name, found in zip(ids, answer["results"], strict=True):
        assert len(found["hits"]) == 5
        assert name not in {hit["id"] for hit in found["hits"]}
        assert_nearest(found["hits"], truth[name], truth, own=name)


async def test_ten_hits_with_their_payloads_are_the_default(client: httpx.AsyncClient, version: Version) -> None:
    (found,) = (await call(client, "/search", ids=["0"]))["results"]
    assert len(found["hits"]) == 10
    for hit in found["hits"]:
        assert hit["payload"] == version.items.payload_at(version.items.position(hit["id"]))


async def test_payloads_may_be_left_out(client: httpx.AsyncClient) -> None:
    (found,) = (await call(client, "/search", ids=["0"], with_payload=False))["results"]
    assert {frozenset(hit) for hit in found["hits"]} == {frozenset({"id", "score"})}


def labelled(version: Version, truth: Truth, passes: Callable[[int], bool]) -> Truth:
    """The items whose label passes."""
    items = version.items
    return {name: row for name, row in truth.items() if passes(items.payload_at(items.position(name))["label"])}


FILTERS: dict[str, tuple[dict[str, Any], Callable[[int], bool]]] = {
    "a tenth": ({"field": "label", "equal": 3}, lambda label: label == 3),
    "most": ({"not": {"field": "label", "in": [3, 4]}}, lambda label: label not in {3, 4}),
    "a range or one": (
        {"or": [{"field": "label", "range": {"gte": 2, "lt": 4}}, {"field": "label", "equal": 9}]},
        lambda label: label in {2, 3, 9},
    ),
    "all": ({"field": "label", "exists": True}, lambda label: True),
}


@pytest.mark.parametrize(("given", "passes"), FILTERS.values(), ids=FILTERS)
async def test_finds_the_nearest_passing_items(
    client: httpx.AsyncClient, version: Version, truth: Truth, given: dict[str, Any], passes: Callable[[int], bool]
) -> None:
    some, rows = labelled(version, truth, passes), pixels_of(*OTHERS)
    queries = (await call(client, "/embed", inputs=rows.tolist()))["embeddings"]
    for asked in ({"inputs": rows.tolist()}, {"embeddings": queries}):
        answer = await call(client, "/search", **asked, limit=20, filter=given)
        for query, found in zip(queries, answer["results"], strict=True):
            assert len(found["hits"]) == 20
            assert_nearest(found["hits"], np.array(query), some)
    own = next(iter(some))
    (found,) = (await call(client, "/search", ids=[own], limit=20, filter=given))["results"]
    assert own not in {hit["id"] for hit in found["hits"]}
    assert_nearest(found["hits"], truth[own], some, own=own)


@pytest.mark.parametrize("given", [given for given, _ in FILTERS.values()], ids=list(FILTERS))
async def test_with_an_npy_body_the_filter_is_in_the_query_string(
    client: httpx.AsyncClient, given: dict[str, Any]
) -> None:
    rows = pixels_of(*OTHERS)
    expected = (await call(client, "/search", inputs=rows.tolist(), filter=given))["results"]
    answer = await client.post(
        "/search", params={"filter": json.dumps(given)}, content=to_npy(rows), headers={"Content-Type": NPY}
    )
    for one, other in zip(answer.json()["results"], expected, strict=True):
        same_hits(one["hits"], other["hits"])


async def test_finds_nothing_if_no_item_passes(client: httpx.AsyncClient) -> None:
    for asked in ({"ids": ["0", "1"]}, {"inputs": pixels_of("0", "1").tolist()}):
        answer = await call(client, "/search", **asked, filter={"field": "label", "equal": 10})
        assert [found["hits"] for found in answer["results"]] == [[], []]


async def test_a_null_filter_is_no_filter(client: httpx.AsyncClient) -> None:
    one, other = [await call(client, "/search", ids=["0"], **more) for more in ({}, {"filter": None})]
    same_hits(one["results"][0]["hits"], other["results"][0]["hits"])


WRONG_FILTERS: list[tuple[Any, str]] = [
    ({}, "filter"),
    ([], "filter"),
    ("label = 3", "filter"),
    ({"field": "label"}, "filter"),
    ({"field": "label", "equal": 3, "in": [3]}, "filter"),
    ({"field": "colour", "equal": 3}, "filter.field"),
    ({"field": 3, "equal": 3}, "filter.field"),
    ({"field": "label", "equal": None}, "filter.equal"),
    ({"field": "label", "in": []}, "filter.in"),
    ({"field": "label", "in": [1, [2]]}, "filter.in[1]"),
    ({"field": "label", "range": {"from": 3}}, "filter.range"),
    ({"field": "label", "range": {"gt": "a"}}, "filter.range"),
    ({"field": "label", "exists": 1}, "filter.exists"),
    ({"and": [{"field": "label", "equal": 3}, {"not": {"field": "x", "equal": 3}}]}, "filter.and[1].not.field"),
    ({"or": [{"field": "label", "equal": 3}] * 257}, "filter"),
]


@pytest.mark.parametrize(("wrong", "path"), WRONG_FILTERS, ids=lambda value: str(value)[:50])
@pytest.mark.parametrize("npy", [False, True], ids=["JSON", "query string"])
async def test_names_the_path_of_an_invalid_filter(client: httpx.AsyncClient, wrong: Any, path: str, npy: bool) -> None:
    if npy:
        answer = await client.post(
            "/search",
            params={"filter": json.dumps(wrong)},
            content=to_npy(pixels_of("0")),
            headers={"Content-Type": NPY},
        )
    else:
        answer = await client.post("/search", json={"ids": ["0"], "filter": wrong})
    answered(answer, 422, path)


async def test_a_filter_as_deep_as_json_goes_is_refused(client: httpx.AsyncClient) -> None:
    deep = '{"not":' * 500 + '{"field": "label", "equal": 3}' + "}" * 500
    answered(await client.post("/search", content=f'{{"ids": ["0"], "filter": {deep}}}'.encode()), 422, "filter.not")


@pytest.mark.parametrize("text", ["", "{", "label", "{'field': 'label', 'equal': 3}", "[" * 5_000])
async def test_a_filter_in_the_query_string_that_is_no_json_is_malformed(client: httpx.AsyncClient, text: str) -> None:
    answer = await client.post(
        "/search", params={"filter": text}, content=to_npy(pixels_of("0")), headers={"Content-Type": NPY}
    )
    answered(answer, 400, "filter")


@pytest.mark.parametrize("kind", ["inputs", "embeddings"])
@pytest.mark.parametrize("accept", [JSON, NPY])
async def test_search_accepts_and_returns_npy(
    client: httpx.AsyncClient, version: Version, kind: str, accept: str
) -> None:
    rows = pixels_of(*OTHERS) if kind == "inputs" else version.embed(pixels_of(*OTHERS))
    expected = (await call(client, "/search", **{kind: rows.tolist()}, limit=4))["results"]
    answer = await client.post(
        "/search",
        params={"kind": kind, "limit": 4, "with_payload": "false"},
        content=to_npy(rows),
        headers={"Content-Type": NPY, "Accept": accept},
    )
    if accept == NPY:
        records = from_npy(answer.content)
        assert (records.shape, records.dtype.names) == ((3, 4), ("id", "score"))
        results = [[dict(zip(("id", "score"), record, strict=True)) for record in row] for row in records.tolist()]
    else:
        results = [found["hits"] for found in answer.json()["results"]]
    for hits, found in zip(results, expected, strict=True):
        same_hits(hits, found["hits"])


@pytest.mark.parametrize("accept", [JSON, NPY])
@pytest.mark.parametrize(("path", "body"), [("/embed", {"inputs": [[1] * 64]}), ("/search", {"ids": ["0"]})])
async def test_every_answer_carries_the_version_that_gave_it(
    client: httpx.AsyncClient, path: str, body: Any, accept: str
) -> None:
    answer = await client.post(path, json=body, headers={"Accept": accept})
    assert answer.headers["x-lookalike-version"] == "1"
    assert accept == NPY or answer.json()["version"] == 1


async def test_the_version_shows_its_evidence(client: httpx.AsyncClient) -> None:
    manifest = (await client.get("/version")).json()
    assert (manifest["version"], manifest["items"], manifest["data"]["name"]) == (1, 1437, "digits")
    assert manifest["evidence"]["recall"] == 1.0


async def test_concurrent_requests_are_answered_as_alone(client: httpx.AsyncClient, rows: Rows2D) -> None:
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/embed", {"inputs": rows[:3].tolist()}),
        ("/embed", {"inputs": rows.tolist()}),
        *(("/search", {"inputs": rows[i : i + 2].tolist(), "limit": 1 + i}) for i in range(8)),
        ("/search", {"ids": ["1", "2"], "limit": 5}),
        ("/search", {"inputs": rows[:150].tolist(), "limit": 2, "with_payload": False}),
        ("/search", {"embeddings": [[0.5] * 8] * 70, "limit": 3}),
    ]
    together = await asyncio.gather(*(call(client, path, **body) for path, body in bodies))
    for (path, body), answer in zip(bodies, together, strict=True):
        alone = await call(client, path, **body)
        if path == "/embed":
            np.testing.assert_allclose(answer["embeddings"], alone["embeddings"], atol=1e-5)
            continue
        for found, expected in zip(answer["results"], alone["results"], strict=True):
            same_hits(found["hits"], expected["hits"])


async def test_a_client_that_disconnects_does_not_disturb_others(client: httpx.AsyncClient, rows: Rows2D) -> None:
    leaving = [asyncio.ensure_future(call(client, "/embed", inputs=rows.tolist())) for _ in range(3)]
    staying = [asyncio.ensure_future(call(client, "/search", ids=[name])) for name in OTHERS]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    assert [len(answer["results"][0]["hits"]) for answer in await asyncio.gather(*staying)] == [10, 10, 10]
    assert all(isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*leaving, return_exceptions=True))


ROW = "[" + ",".join(["1"] * 64) + "]"
JUNK: dict[str, tuple[str, int, str]] = {
    "an empty body": ("", 400, "body"),
    "no UTF-8": ('{"ids": ["\udcff"]}', 400, "body"),
    "truncated JSON": ('{"inputs": [[1, 2', 400, "body"),
    "NaN": (f'{{"inputs": [{ROW.replace("1", "NaN", 1)}]}}', 400, "body"),
    "Infinity": (f'{{"inputs": [{ROW.replace("1", "-Infinity", 1)}]}}', 400, "body"),
    "1e999": (f'{{"inputs": [{ROW.replace("1", "1e999", 1)}]}}', 400, "body"),
    "1e39": (f'{{"inputs": [{ROW.replace("1", "1e39", 1)}]}}', 422, "inputs"),
    "NaN as a string": (f'{{"inputs": [{ROW.replace("1", chr(34) + "NaN" + chr(34), 1)}]}}', 422, "inputs"),
    "null": (f'{{"inputs": [{ROW.replace("1", "null", 1)}]}}', 422, "inputs"),
    "true": (f'{{"inputs": [{ROW.replace("1", "true", 1)}]}}', 422, "inputs"),
    "100,000 deep": ("[" * 100_000 + "]" * 100_000, 400, "body"),
    "100,000 deep in a field": ('{"inputs": ' + "[" * 100_000 + "]" * 100_000 + "}", 400, "body"),
    "1,000 deep in a field": ('{"inputs": ' + "[" * 1_000 + "]" * 1_000 + "}", 422, "inputs"),
    "an array": (f"[{ROW}]", 422, "body"),
    "a wide array": (f"[{','.join([ROW] * 999)}]", 422, "body"),
    "a wrong width": ('{"inputs": [[1, 2, 3]]}', 422, "inputs"),
    "no rows": ('{"inputs": []}', 422, "inputs"),
    "too many rows": (f'{{"inputs": [{",".join([ROW] * 301)}]}}', 413, "inputs"),
    "an unknown field": (f'{{"inputs": [{ROW}], "a": 1}}', 422, "a"),
    "a long unknown field": (f'{{"{"a" * 50_000}": 1}}', 422, "aaa"),
}


@pytest.mark.parametrize(("body", "status", "field"), JUNK.values(), ids=JUNK.keys())
@pytest.mark.parametrize("path", ["/embed", "/search"])
async def test_names_the_field_of_a_bad_body(
    client: httpx.AsyncClient, path: str, body: str, status: int, field: str
) -> None:
    answered(await client.post(path, content=body.encode("utf-8", "surrogateescape")), status, field)


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        *(({"ids": ["0"], "limit": limit}, 422, "limit") for limit in (0, -1, 101, 10**9, 1.5, "3", True, None)),
        ({"ids": ["0", "none such"]}, 404, "ids"),
        ({"ids": ["x" * 10_000]}, 404, "ids"),
        ({"ids": [0]}, 422, "ids"),
        ({"ids": []}, 422, "ids"),
        ({"ids": ["0"] * 301}, 413, "ids"),
        ({"ids": ["0"], "embeddings": [[1] * 8]}, 422, "inputs, embeddings, ids"),
        ({}, 422, "inputs, embeddings, ids"),
        ({"embeddings": [[1] * 7]}, 422, "embeddings"),
        ({"ids": ["0"], "with_payload": "yes"}, 422, "with_payload"),
    ],
)
async def test_names_the_field_of_a_bad_search(
    client: httpx.AsyncClient, fields: dict[str, Any], status: int, field: str
) -> None:
    answered(await client.post("/search", json=fields), status, field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"limit={limit}", "limit") for limit in ("0", "-1", "101", "1.5", "", "three", "9" * 5_000, "²", "--1")),
        ("kind=ids", "kind"),
        ("kind=embeddings", "embeddings"),
        ("with_payload=maybe", "with_payload"),
    ],
)
async def test_names_the_field_of_a_bad_query_string(client: httpx.AsyncClient, query: str, field: str) -> None:
    answer = await client.post(f"/search?{query}", content=to_npy(np.ones((1, 64))), headers={"Content-Type": NPY})
    answered(answer, 422, field)


@pytest.mark.parametrize("path", ["/embed", "/search"])
@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        (b"", 400, "body"),
        (to_npy(np.ones((1, 64)))[:-1], 400, "body"),
        (to_npy(np.ones((1, 63))), 422, "inputs"),
        (to_npy(np.full((1, 64), np.nan)), 422, "inputs"),
        (to_npy(np.ones((301, 64))), 413, "inputs"),
    ],
)
async def test_names_the_field_of_a_bad_npy(
    client: httpx.AsyncClient, path: str, content: bytes, status: int, field: str
) -> None:
    answered(await client.post(path, content=content, headers={"Content-Type": NPY}), status, field)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "x" * 5_000, "image/gif"])
async def test_another_content_type_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/search", content=b'{"ids": ["0"]}', headers={"Content-Type": content_type})
    answered(answer, 415, "Content-Type")


@pytest.mark.parametrize("chunked", [False, True], ids=["by its own word", "by what came"])
async def test_refuses_a_body_over_the_limit(store_folder: Path, version: Version, chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 400

    content: Any = parts() if chunked else b" " * 1_200
    async with serving(settings_for(store_folder, max_body_bytes=1_000), version) as client:
        answered(await client.post("/embed", content=content), 413, "body")


async def test_gives_up_a_slow_body(store_folder: Path, version: Version) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"ids":'
        await asyncio.Event().wait()

    async with serving(settings_for(store_folder, body_seconds=0.05), version) as client:
        answered(await client.post("/search", content=stalled()), 408, "body")


async def test_unknown_routes_and_wrong_methods_are_problem_documents(client: httpx.AsyncClient) -> None:
    assert problem(await client.get("/none"), 404)["found"] == "GET /none"
    wrong = await client.get("/search")
    assert problem(wrong, 405)["field"] == "path"
    assert wrong.headers["allow"] == "POST"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
ROWS = st.lists(st.lists(st.floats(width=32) | st.integers(), min_size=8, max_size=8), min_size=1, max_size=3)
FIELD = st.sampled_from(["inputs", "embeddings", "ids", "limit", "with_payload", "filter"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(VALUES | st.dictionaries(FIELD, VALUES) | st.fixed_dictionaries({"embeddings": ROWS | VALUES}))
async def test_answers_any_json_without_a_500(client: httpx.AsyncClient, value: Any) -> None:
    for path in ("/embed", "/search"):
        answer = await client.post(path, content=json.dumps(value).encode())
        assert answer.status_code < 500
        assert answer.status_code == 200 or problem(answer, answer.status_code)


@pytest.mark.parametrize("factor", [0.0, float("nan"), -1.0])
async def test_ready_means_the_known_question_gets_its_known_answer(store_folder: Path, factor: float) -> None:
    """The weights are overwritten in memory, as a stray write would."""
    own = Store(store_folder).open_champion("cpu")
    async with serving(settings_for(store_folder), own) as client:
        assert ReadyResponse.model_validate((await client.get("/readyz")).json()) == ReadyResponse(
            ready=True, version=1
        )
        for tensor in own.autoencoder.encoder.state_dict().values():
            tensor.mul_(factor)
        problem(await client.get("/readyz"), 503)
        assert (await client.get("/livez")).json() == {"live": True}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/version", "/metrics", "/openapi.json", "/items", "/items/0"])
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    got, asked = await client.get(path), await client.head(path)
    assert (asked.status_code, asked.content) == (got.status_code, b"")
    same = ("content-type", "x-lookalike-version", "x-lookalike-sequence")
    assert [asked.headers.get(name) for name in same] == [got.headers.get(name) for name in same]


@pytest.mark.parametrize(("path", "status"), [("/search", 405), ("/none", 404), ("/items/none", 404)])
async def test_head_fails_like_get(client: httpx.AsyncClient, path: str, status: int) -> None:
    assert (await client.head(path)).status_code == (await client.get(path)).status_code == status


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", ""])
@pytest.mark.parametrize("path", ["/search", "/embed"])
async def test_refuses_a_compressed_body_by_name(client: httpx.AsyncClient, path: str, coding: str) -> None:
    answer = await client.post(path, content=gzip.compress(b'{"ids": ["0"]}'), headers={"Content-Encoding": coding})
    answered(answer, 415, "Content-Encoding")


async def test_a_body_may_say_that_it_is_not_compressed(client: httpx.AsyncClient) -> None:
    headers = {"Content-Encoding": "identity"}
    assert (await client.post("/search", content=b'{"ids": ["0"]}', headers=headers)).status_code == 200


async def test_refuses_bodies_beyond_the_budget_and_frees_answered_ones(version: Version, store_folder: Path) -> None:
    asked = b'{"ids": ["0"]}'
    async with serving(settings_for(store_folder, max_bytes_in_flight=100), version) as client:
        for content, status in ((asked, 200), (b"{", 400), (asked.ljust(100), 200), (asked.ljust(101), 503)) * 3:
            answer = await client.post("/search", content=content)
            assert answer.status_code == status
        answered(answer, 503, "body")
        assert (answer.headers["Retry-After"], answer.headers["Connection"]) == ("1", "close")


def places(answer: Any) -> list[list[tuple[str, int]]]:
    """The recording and the start of each hit."""
    hits = ([hit["payload"] for hit in result["hits"]] for result in answer["results"])
    return [[(payload["recording"], payload["start"]) for payload in each] for each in hits]


def overlapping_pairs(found: list[tuple[str, int]]) -> int:
    return sum(a == b and abs(s - t) < 8 for n, (a, s) in enumerate(found) for b, t in found[:n])


async def test_hits_of_windows_that_overlap_count_once(window_store: Store) -> None:
    version = window_store.open_champion()
    rows = next(iter(window_rows(1).chunks())).inputs[:3]
    async with serving(settings_for(window_store.folder), version) as client:
        for found in places(await call(client, "/search", inputs=rows.tolist(), limit=12)):
            assert len(found) == 12
            assert overlapping_pairs(found) == 0
        plain = places(await call(client, "/search", inputs=rows.tolist(), limit=12, distinct=False))
        assert all(overlapping_pairs(found) for found in plain)
        sent = {"content": to_npy(rows), "headers": {"Content-Type": NPY}}
        answer = await client.post("/search", params={"limit": "12", "distinct": "false"}, **sent)  # type: ignore[arg-type]
        assert places(answer.json()) == plain
        (found,) = places(await call(client, "/search", ids=["r3@20"], limit=30))
        assert all(abs(start - 20) >= 8 for name, start in found if name == "r3")
        (found,) = places(await call(client, "/search", ids=["r3@20"], limit=30, exclude=15))
        assert all(abs(start - 20) >= 8 + 15 for name, start in found if name == "r3")
        answered(await client.post("/search", json={"ids": ["r3@20"], "exclude": "30s"}), 422, "exclude")
        answered(await client.post("/search", json={"ids": ["r3@20"], "exclude": [1]}), 422, "exclude")
        answered(await client.post("/search", json={"inputs": rows.tolist(), "exclude": 3}), 422, "exclude")


async def test_items_that_are_no_windows_have_no_overlaps(client: httpx.AsyncClient) -> None:
    for field, value in (("distinct", True), ("exclude", 3)):
        answered(await client.post("/search", json={"ids": ["3"], field: value}), 422, field)
    assert (await client.post("/search", json={"ids": ["3"], "distinct": False})).status_code == 200
