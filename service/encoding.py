"""From answers to bytes, written once: JSON by orjson, or .npy."""

import io
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from index.version import Found, Version

__all__ = ["JSON", "NPY", "VERSION_HEADER", "embeddings_response", "hits_response"]

JSON = "application/json"
NPY = "application/x-npy"
VERSION_HEADER = "X-Lookalike-Version"
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def embeddings_response(version: Version, embeddings: NDArray[np.float32], *, as_npy: bool) -> Response:
    """{"version", "embeddings"}, or (n, latent_dim) float32."""
    if as_npy:
        return _npy(version, embeddings)
    body = {"version": version.number, "embeddings": np.ascontiguousarray(embeddings)}
    return _respond(version, orjson.dumps(body, option=_NUMPY), JSON)


def hits_response(version: Version, found: Found, *, with_payload: bool, as_npy: bool) -> Response:
    """{"version", "results"}, or a (n, limit) array of records (id, score); no hit is "" and NaN."""
    if as_npy:
        return _npy(version, _records(version, found))
    each = zip(found.scores.tolist(), found.positions.tolist(), found.novelty.tolist(), strict=True)
    results = [
        {"hits": _hits(version, scores, positions, with_payload), "novelty": novelty}
        for scores, positions, novelty in each
    ]
    return _respond(version, orjson.dumps({"version": version.number, "results": results}), JSON)


def _hits(version: Version, scores: list[float], positions: list[int], with_payload: bool) -> list[dict[str, Any]]:
    items = version.items
    hits: list[dict[str, Any]] = [
        {"id": items.id_at(position), "score": score}
        for score, position in zip(scores, positions, strict=True)
        if position >= 0
    ]
    if with_payload:
        found = (position for position in positions if position >= 0)
        for hit, position in zip(hits, found, strict=True):
            hit["payload"] = orjson.Fragment(items.payload_json(position))
    return hits


def _records(version: Version, found: Found) -> NDArray[Any]:
    ids = [[version.items.id_at(p) if p >= 0 else "" for p in row] for row in found.positions.tolist()]
    width = max((len(name) for row in ids for name in row), default=1) or 1
    records = np.empty(found.positions.shape, [("id", f"<U{width}"), ("score", "<f4")])
    records["id"] = ids
    records["score"] = np.where(found.positions >= 0, found.scores, np.nan)
    return records


def _npy(version: Version, array: NDArray[Any]) -> Response:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return _respond(version, stream.getvalue(), NPY)


def _respond(version: Version, body: bytes, media_type: str) -> Response:
    return Response(body, media_type=media_type, headers={VERSION_HEADER: str(version.number)})
