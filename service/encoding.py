"""From answers to bytes, written once: JSON by orjson, or .npy."""

import io
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response, StreamingResponse

from index.collection import Collection
from index.live import Live
from index.version import Found
from service.bodies import JSON, NPY
from training.known_range import Clipped

__all__ = [
    "SEQUENCE_HEADER",
    "VERSION_HEADER",
    "embeddings_response",
    "hits_response",
    "item_response",
    "items_response",
    "put_response",
    "written_response",
]

VERSION_HEADER = "X-Lookalike-Version"
SEQUENCE_HEADER = "X-Lookalike-Sequence"
PART_VALUES = 1 << 16
"""Numbers that are written at a time: about 700 kB of JSON."""
Form = Literal["float", "base64", "npy"]
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def embeddings_response(collection: Collection, embeddings: NDArray[np.float32], form: Form) -> Response:
    """{"version", "embeddings"}, each a list of numbers or base64 of little-endian float32; or (n, latent_dim) as .npy.

    A large answer is written part by part, as the client takes it.
    """
    if form == "npy":
        return _npy(collection, embeddings)
    parts = _json_parts(collection.number, np.ascontiguousarray(embeddings, "<f4"), form)
    if embeddings.size <= PART_VALUES:
        return _respond(collection, b"".join(parts), JSON)
    return StreamingResponse(parts, media_type=JSON, headers=_headers(collection))


def _json_parts(number: int, embeddings: NDArray[np.float32], form: Form) -> Iterator[bytes]:
    size = max(1, PART_VALUES // max(1, embeddings.shape[1]))
    yield b'{"version":%d,"embeddings":[' % number
    for start in range(0, len(embeddings), size):
        block = embeddings[start : start + size]
        told = block if form == "float" else [b64encode(row.tobytes()).decode("ascii") for row in block]
        yield (b"," if start else b"") + orjson.dumps(told, option=_NUMPY)[1:-1]
    yield b"]}"


def hits_response(collection: Collection, found: Found, *, with_payload: bool, as_npy: bool) -> Response:
    """{"version", "sequence", "results"}, or a (n, limit) array of records (id, score); no hit is "" and NaN."""
    if as_npy:
        return _npy(collection, _records(collection, found), found.sequence)
    each = zip(found.scores.tolist(), found.positions.tolist(), found.novelty.tolist(), strict=True)
    results = [
        {"hits": _hits(collection.items, scores, positions, with_payload), "novelty": novelty}
        for scores, positions, novelty in each
    ]
    answer = {"version": collection.number, "sequence": found.sequence, "results": results}
    return _respond(collection, orjson.dumps(answer), JSON, found.sequence)


def written_response(number: int, sequence: int, count: int) -> Response:
    """{"version", "sequence", "count"}."""
    return _written({"version": number, "sequence": sequence, "count": count})


def put_response(number: int, sequence: int, count: int, clipped: Clipped) -> Response:
    """{"version", "sequence", "count", "clipped", "warnings": [{"id", "column", "value", "low", "high"}, ...]}."""
    told = {"version": number, "sequence": sequence, "count": count}
    return _written(told | {"clipped": clipped.count, "warnings": clipped.values})


def _written(told: dict[str, Any]) -> Response:
    headers = {VERSION_HEADER: str(told["version"]), SEQUENCE_HEADER: str(told["sequence"])}
    return Response(orjson.dumps(told), media_type=JSON, headers=headers)


def item_response(collection: Collection, position: int) -> Response:
    """{"version", "sequence", "id", "payload", "embedding"}, of what the collection holds now."""
    embedding = collection.embeddings.at(np.array([position]))[0]
    told = {"version": collection.number, "sequence": collection.applied}
    item = {**told, **_item(collection.items, position), "embedding": embedding}
    return _respond(collection, orjson.dumps(item, option=_NUMPY), JSON, collection.applied)


def items_response(collection: Collection, positions: list[int], sequence: int, *, is_last: bool) -> Response:
    """{"version", "sequence", "items": [{"id", "payload"}, ...], "next"}: what was found up to that change."""
    items = collection.items
    after = None if is_last else items.id_at(positions[-1])
    page = {"items": [_item(items, place) for place in positions], "next": after}
    return _respond(
        collection, orjson.dumps({"version": collection.number, "sequence": sequence, **page}), JSON, sequence
    )


def _item(items: Live, position: int) -> dict[str, Any]:
    return {"id": items.id_at(position), "payload": orjson.Fragment(items.payload_json(position))}


def _hits(items: Live, scores: list[float], positions: list[int], with_payload: bool) -> list[dict[str, Any]]:
    name, payload = items.id_at, items.payload_json
    each = [(score, position) for score, position in zip(scores, positions, strict=True) if position >= 0]
    if not with_payload:
        return [{"id": name(position), "score": score} for score, position in each]
    return [
        {"id": name(position), "score": score, "payload": orjson.Fragment(payload(position))}
        for score, position in each
    ]


def _records(collection: Collection, found: Found) -> NDArray[Any]:
    ids = [[collection.items.id_at(p) if p >= 0 else "" for p in row] for row in found.positions.tolist()]
    width = max((len(name) for row in ids for name in row), default=1) or 1
    records = np.empty(found.positions.shape, [("id", f"<U{width}"), ("score", "<f4")])
    records["id"] = ids
    records["score"] = np.where(found.positions >= 0, found.scores, np.nan)
    return records


def _npy(collection: Collection, array: NDArray[Any], sequence: int | None = None) -> Response:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return _respond(collection, stream.getvalue(), NPY, sequence)


def _respond(collection: Collection, body: bytes, media_type: str, sequence: int | None = None) -> Response:
    return Response(body, media_type=media_type, headers=_headers(collection, sequence))


def _headers(collection: Collection, sequence: int | None = None) -> dict[str, str]:
    """An answer about items has the sequence number up to which it includes changes; an embedding needs none."""
    version = {VERSION_HEADER: str(collection.number)}
    return version if sequence is None else version | {SEQUENCE_HEADER: str(sequence)}
