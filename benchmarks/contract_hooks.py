"""Hooks for schemathesis that turn most bodies that match the description into bodies that can be answered.

The description contains neither the number of values in a row nor the existing ids. Without these hooks, nearly all
answers would be 422, and few answers of 200 would be compared with the description. Bodies that break the description
are not changed.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import schemathesis

__all__ = ["LATENT", "WIDTH", "before_call"]

WIDTH, LATENT = 64, 8
LEFT = 0.3
ITEMS, KINDS = 90, 5
"""The items that are put and deleted, and the number of values by which a filter selects among them."""
_random = Random(0)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Put correct rows, ids and filters into most calls that match the description."""
    body, made = case.body, case.meta
    fits = made is not None and made.generation.mode == schemathesis.GenerationMode.POSITIVE
    if not fits or _random.random() < LEFT:
        return
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = _item(_random.randrange(ITEMS))
    if "filter" in (case.query or {}):
        case.query["filter"] = json.dumps({"field": "kind", "equal": _random.randrange(KINDS)})
    if not isinstance(body, dict):
        return
    if isinstance(body.get("items"), list):
        body["items"] = [_item_of(each, number) for number, each in enumerate(body["items"])]
    right: dict[str, Callable[[int], Any]] = {
        "inputs": lambda _: [1.5] * WIDTH,
        "embeddings": lambda _: [0.5] * LATENT,
        "ids": str,
    }
    for name, make in right.items():
        if isinstance(body.get(name), list):
            body[name] = [make(number) for number in range(len(body[name]))]
    if isinstance(body.get("limit"), int):
        body["limit"] = 1 + body["limit"] % 7
    kinds = [name for name in right if body.get(name)]
    for others in (_random.sample(kinds, max(0, len(kinds) - 1)), ["filter"], ["version"]):
        if _random.random() > LEFT:
            for name in others:
                body.pop(name, None)


def _item(number: int) -> str:
    """The id of one of the items that are put."""
    return f"shelf {number % 3}/item {number}"


def _item_of(given: Any, number: int) -> dict[str, Any]:
    """An item to put; other calls put, get and delete the same items."""
    kept = given if isinstance(given, dict) else {}
    fields = {"id": _item(_random.randrange(ITEMS // 9) * 9 + number % 9), "input": [_random.random()] * WIDTH}
    return kept | fields | {"payload": {"kind": _random.randrange(KINDS)}}
