"""What schemathesis is told of the data: a body that fits the description is made one that can be answered, mostly.

The description cannot say how many values a row has, nor which ids there are; without this nearly all answers would be
422, and few of 200 would be compared with what is described. Bodies that break the description stay as they are.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import schemathesis

__all__ = ["LATENT", "WIDTH", "before_call"]

WIDTH, LATENT = 64, 8
LEFT = 0.3
_random = Random(0)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Put right rows and ids into a body that fits, save for some."""
    body, made = case.body, case.meta
    fits = made is not None and made.generation.mode == schemathesis.GenerationMode.POSITIVE
    if not fits or not isinstance(body, dict) or _random.random() < LEFT:
        return
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
    if _random.random() > LEFT:
        body.pop("filter", None)
