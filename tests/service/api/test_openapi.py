from typing import Any

import pytest
from fastapi import FastAPI

from lookalike.index.changes.collection import Collection
from lookalike.index.versions.version import Version
from lookalike.service.api.openapi import problems
from lookalike.service.app import create_app
from lookalike.service.settings import Settings


@pytest.fixture
def app(settings: Settings, version: Version) -> FastAPI:
    return create_app(settings, Collection(version))


def described(app: FastAPI, path: str, method: str = "post") -> dict[str, Any]:
    call: dict[str, Any] = app.openapi()["paths"][path][method]
    return call


PHOTOS = {"image/jpeg", "image/png", "image/webp", "multipart/form-data"}


def test_both_hot_calls_accept_json_npy_and_photos_and_return_json_and_npy(app: FastAPI) -> None:
    for path in ("/embed", "/search"):
        call = described(app, path)
        assert set(call["requestBody"]["content"]) == {"application/json", "application/x-npy", *PHOTOS}
        assert set(call["responses"]["200"]["content"]) == {"application/json", "application/x-npy"}


def test_items_accept_json_and_photos_with_their_ids_and_payloads(app: FastAPI) -> None:
    call = described(app, "/items", "put")
    assert set(call["requestBody"]["content"]) == {"application/json", *PHOTOS}
    form = call["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"files", "ids", "payloads"}
    assert [(given["name"], given.get("required")) for given in call["parameters"]] == [("id", None), ("payload", None)]


def test_explain_accepts_only_json(app: FastAPI) -> None:
    content = described(app, "/explain")["requestBody"]["content"]
    assert set(content) == {"application/json"}
    assert set(content["application/json"]["schema"]["properties"]) == {"ids", "input", "image", "id", "min_sequence"}


def test_a_preview_is_a_webp_picture_or_not_changed(app: FastAPI) -> None:
    call = described(app, "/items/{id}/preview", "get")
    assert set(call["responses"]["200"]["content"]) == {"image/webp"}
    assert {"304", "401", "404"} <= set(call["responses"])


def test_every_guarded_call_names_both_ways_to_give_the_key(app: FastAPI) -> None:
    for path, method in (("/embed", "post"), ("/search", "post"), ("/version", "get"), ("/metrics", "get")):
        assert described(app, path, method)["security"] == [{"APIKeyHeader": []}, {"HTTPBearer": []}]
    assert "security" not in described(app, "/readyz", "get")


def test_a_path_with_an_id_says_so_and_changes_say_which_key(app: FastAPI) -> None:
    for method in ("get", "delete"):
        name, *_ = described(app, "/items/{id}", method)["parameters"]
        assert (name["name"], name["in"], name["required"]) == ("id", "path", True)
    for method in ("put", "get", "delete"):
        assert described(app, "/items", method)["security"] == [{"APIKeyHeader": []}, {"HTTPBearer": []}]
        assert {"401", "403", "422"} <= set(described(app, "/items", method)["responses"])
    assert "503" in described(app, "/items", "put")["responses"]
    (given,) = described(app, "/items", "delete")["parameters"]
    assert (given["name"], given["required"], set(given["content"])) == ("filter", True, {"application/json"})


def test_describes_the_error_statuses() -> None:
    assert {status: p["description"] for status, p in problems(503, 401).items()} == {
        401: "No key",
        503: "Not ready, or the request bodies in memory are too large",
    }
