"""POST /explain, on a store whose embeddings are directions, and on a table."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.changes.collection import Collection
from lookalike.index.versions.build import BuildExtras, build
from lookalike.index.versions.store import Store
from lookalike.service.api.response_models import ExplainResponse
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows
from tests.factories import encoder_at, made_rows
from tests.mixed import QUICK, mixed, write_csv
from tests.service.changing import ROWS, changing_store, listening_to
from tests.service.helpers import answered, call, serving, settings_for

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with listening_to(changing_store(tmp_path)) as (client, _):
        yield client


async def explained(client: httpx.AsyncClient, **body: Any) -> Any:
    answer = await call(client, "/explain", **body)
    ExplainResponse.model_validate(answer, strict=True)
    return answer


def by_name(answer: Any) -> dict[str, Any]:
    return {part["part"]: part for part in answer["parts"]}


async def test_explains_two_items(client: httpx.AsyncClient) -> None:
    answer = await explained(client, ids=["1-0", "1-1"])
    directions = ROWS[:2] / np.linalg.norm(ROWS[:2], axis=1, keepdims=True)
    assert answer["score"] == pytest.approx(float(directions[0] @ directions[1]), abs=1e-5)
    assert (answer["version"], answer["sequence"]) == (1, 0)
    parts = by_name(answer)
    assert set(parts) == {f"value {number}" for number in range(4)}
    assert [parts[f"value {number}"]["a"] for number in range(4)] == pytest.approx(ROWS[0].tolist())
    assert [part["alike"] for part in answer["parts"]] == sorted((p["alike"] for p in parts.values()), reverse=True)


async def test_explains_a_query_and_an_item_that_was_put(client: httpx.AsyncClient) -> None:
    new = [3.0, 0.0, 4.0, 0.0]
    done = await client.put("/items", json={"items": [{"id": "new", "input": new}]})
    answer = await explained(client, input=[3.0, 0.0, -4.0, 0.0], id="new", min_sequence=done.json()["sequence"])
    assert answer["sequence"] == 1
    parts = by_name(answer)
    assert (parts["value 2"]["a"], parts["value 2"]["b"]) == (-4, 4)
    assert parts["value 2"]["apart"] == pytest.approx(1, abs=1e-5)
    assert parts["value 0"]["apart"] == parts["value 0"]["difference"] == 0
    assert answer["score"] == pytest.approx((9 - 16) / 25, abs=1e-6)


async def test_an_item_is_explained_as_it_is_now(client: httpx.AsyncClient) -> None:
    await client.put("/items", json={"items": [{"id": "1-0", "input": ROWS[1].tolist()}]})
    assert (await explained(client, ids=["1-0", "1-1"]))["score"] == pytest.approx(1)
    await client.delete("/items/1-0")
    answered(await client.post("/explain", json={"ids": ["1-0", "1-1"]}), 404, "id")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"ids": ["1-0", "no item"]}, 404, "id"),
        ({"input": [0, 0, 0, 1], "id": "no item"}, 404, "id"),
        ({}, 422, "ids, input, image, id"),
        ({"ids": ["1-0", "1-1"], "id": "1-1"}, 422, "ids, input, image, id"),
        ({"input": [0, 0, 0, 1]}, 422, "ids, input, image, id"),
        ({"image": "", "id": "1-0"}, 422, "image"),
        ({"ids": ["1-0"]}, 422, "ids"),
        ({"ids": ["1-0", "1-1", "1-2"]}, 422, "ids"),
        ({"ids": ["1-0", 7]}, 422, "ids[1]"),
        ({"input": [0, 0, 1], "id": "1-0"}, 422, "input"),
        ({"input": [0, 0, 0, "a"], "id": "1-0"}, 422, "input"),
        ({"input": [0, 0, 0, 1e39], "id": "1-0"}, 422, "input"),
        ({"ids": ["1-0", "1-1"], "more": 1}, 422, "more"),
        ({"ids": ["1-0", "1-1"], "min_sequence": -1}, 422, "min_sequence"),
        ([], 422, "body"),
    ],
)
async def test_a_wrong_request_is_refused(client: httpx.AsyncClient, body: Any, status: int, field: str) -> None:
    answered(await client.post("/explain", json=body), status, field)


async def test_only_json_is_accepted(client: httpx.AsyncClient) -> None:
    answered(await client.post("/explain", content=b"{"), 400, "body")
    answered(await client.post("/explain", content=b"x", headers={"Content-Type": "text/plain"}), 415, "Content-Type")


async def test_a_version_without_inputs_says_how_to_get_them(tmp_path: Path) -> None:
    store, encoder = Store(tmp_path / "store"), encoder_at(tmp_path / "encoder", np.eye(4, dtype=np.float32))
    extras = BuildExtras(inputs=False)
    store.promote(build(made_rows(ROWS), encoder, store, target=Target(key="Flat"), device="cpu", extras=extras))
    async with listening_to(store) as (client, _):
        answer = await client.post("/explain", json={"ids": ["row-0", "row-1"]})
        answered(answer, 422, "version")
        assert "without --no-inputs" in answer.json()["detail"]


@pytest.mark.slow
async def test_the_columns_of_a_table_have_their_values(tmp_path: Path) -> None:
    data, store = write_csv(tmp_path / "animals.csv", mixed()), Store(tmp_path / "store")
    rows = open_rows(str(data))
    train(rows, load_config(None, [*QUICK, "fit.epochs=3"]), tmp_path / "run")
    store.promote(build(rows, tmp_path / "run", store, target=Target(key="Flat"), device="cpu"))
    async with serving(settings_for(store.folder), Collection(store.open_champion()).version) as client:
        row = {"weight": 1.5, "animal": "dog", "colour": None, "always": 7, "planet": "earth", "legs": 4, "tame": True}
        parts = by_name(await explained(client, input={**row, "price": None}, id="item-0"))
        assert (parts["animal"]["a"], parts["animal"]["b"], parts["animal"]["difference"]) == ("dog", "cat", 1)
        assert (parts["tame"]["a"], parts["weight"]["a"], parts["price"]["a"]) == (True, 1.5, None)
