import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from lookalike.index.changes.collection import Collection
from lookalike.index.versions.version import Version
from lookalike.service.api.response_models import EmbedResponse, ExplainResponse, PutResponse, SearchResponse
from lookalike.service.app import create_app
from lookalike.service.settings import Settings
from tests.factories import ROOT
from tests.service.helpers import all_routes, call, serving

pytestmark = pytest.mark.anyio
COMMITTED = ROOT / "docs" / "openapi.json"
HOW = (
    "The API changed. Look at the change, then write its description again from a running service:\n"
    "  curl -s http://127.0.0.1:8000/openapi.json | python -m json.tool > docs/openapi.json"
)


def references(value: Any) -> list[str]:
    """Every $ref of a document."""
    if isinstance(value, list):
        return [found for inner in value for found in references(inner)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for inner in value.values() for found in references(inner)]


def test_the_committed_openapi_is_the_apps(settings: Settings, version: Version) -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == create_app(settings, Collection(version)).openapi(), HOW


def test_the_openapi_refers_to_nothing_that_is_not_there(settings: Settings, version: Version) -> None:
    document = create_app(settings, Collection(version)).openapi()
    found = references(document)
    assert found
    for reference in found:
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_these_are_the_calls(settings: Settings, version: Version) -> None:
    assert set(all_routes(create_app(settings, Collection(version)))) == {
        ("POST", "/embed"),
        ("POST", "/search"),
        ("POST", "/explain"),
        ("PUT", "/items"),
        ("GET", "/items"),
        ("DELETE", "/items"),
        ("GET", "/items/{id:path}"),
        ("GET", "/items/{id:path}/preview"),
        ("DELETE", "/items/{id:path}"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/version"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("POST", "/admin/reload"),
    }


async def test_the_examples_are_answered_as_they_are_described(
    settings: Settings, version: Version, tmp_path: Path
) -> None:
    asked: dict[tuple[str, str], type[BaseModel]] = {
        ("POST", "/embed"): EmbedResponse,
        ("POST", "/search"): SearchResponse,
        ("POST", "/explain"): ExplainResponse,
        ("PUT", "/items"): PutResponse,
    }
    shutil.copytree(settings.store, tmp_path / "store")
    own = settings.model_copy(update={"store": tmp_path / "store"})
    paths = create_app(settings, Collection(version)).openapi()["paths"]
    async with serving(own, version) as client:
        for (method, path), gives in asked.items():
            examples = paths[path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]["examples"]
            assert len(examples) >= 2
            for body in examples:
                answer = await client.request(method, path, json=body)
                assert answer.status_code == 200, answer.text
                gives.model_validate(answer.json(), strict=True)


async def test_the_end_of_the_app_ends_its_engine(settings: Settings, version: Version, rows: NDArray[Any]) -> None:
    before = set(threading.enumerate())
    async with serving(settings, version) as client:
        await call(client, "/embed", inputs=rows.tolist())
        names = {thread.name.partition("_")[0] for thread in set(threading.enumerate()) - before}
        assert {"drift", "engine"} <= names
    assert set(threading.enumerate()) <= before


async def test_an_app_may_be_started_again(settings: Settings, version: Version) -> None:
    app = create_app(settings, Collection(version))
    for _ in range(2):
        async with app.router.lifespan_context(app):
            answer = await app.state.serving.current.engine.embed(version.canary)
            assert answer.shape == (1, 8)
