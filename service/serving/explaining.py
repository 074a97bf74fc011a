"""Explain what makes two items alike, beside the other calls: the engine embeds, and a thread does the rest."""

import asyncio
from typing import Any

import numpy as np

from lookalike.index.changes.item_inputs import inputs_of_version, payload_of
from lookalike.index.evaluation.explain import compare
from lookalike.index.evaluation.explanation_json import explanation_fields
from lookalike.service.parsing.explain_bodies import ExplainQuery
from lookalike.service.serving.batching import IsDisconnected, never
from lookalike.service.serving.serving import Current, Serving
from lookalike.training.array_types import Floats

__all__ = ["explain_pair"]


async def explain_pair(
    serving: Serving, current: Current, query: ExplainQuery, is_disconnected: IsDisconnected = never
) -> dict[str, Any]:
    """Return the output of `explanation_fields` for two items, or for a row and an item.

    Raises UnknownItemError for an unknown id, QueryError if the version has no inputs, and the errors of the engine.
    """
    collection, encoder = current.collection, current.version.encoder
    inputs = inputs_of_version(collection)
    rows, payloads = list(query.rows), list[dict[str, Any]]({} for _ in query.rows)
    for name in query.ids:
        rows.append(await serving.input_of(collection, name))
        payloads.append(payload_of(collection, name))
    occlusion = await asyncio.to_thread(compare, encoder, inputs, np.stack(rows))
    blocks, embeddings = occlusion.blocks(), list[Floats]()
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        embeddings.append(await current.engine.embed(block, is_disconnected))

    def weigh() -> dict[str, Any]:
        explanation = occlusion.explain(np.concatenate(embeddings), current.version.metric)
        return explanation_fields(occlusion, explanation, encoder.origin, payloads)

    return await asyncio.to_thread(weigh)
