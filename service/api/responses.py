"""From results to responses: JSON by orjson, or .npy; large responses are written part by part."""

import hashlib
import io
import itertools
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response, StreamingResponse

from lookalike.index.changes.collection import Collection
from lookalike.index.changes.delta import Delta
from lookalike.index.versions.searching import SearchResult
from lookalike.service.errors import TooLargeError
from lookalike.service.parsing.bodies import JSON, NPY, WEBP
from lookalike.service.parsing.segments import SegmentWindow
from lookalike.training.array_types import Floats
from lookalike.training.artifact.known_range import Clipped

__all__ = [
    "FEW_HITS",
    "SEQUENCE_HEADER",
    "VERSION_HEADER",
    "embeddings_response",
    "explained_response",
    "hits_response",
    "item_response",
    "items_response",
    "preview_response",
    "put_response",
    "written_response",
]

VERSION_HEADER = "X-Lookalike-Version"
SEQUENCE_HEADER = "X-Lookalike-Sequence"
PART_VALUES = 1 << 16
"""Numbers of one part: about 700 kB of JSON."""
PART_BYTES = 1 << 18
"""Approximate bytes of one part of hits, items or .npy; a smaller response has one part."""
FEW_HITS = 1_000
HITS_READ = 16
"""Hits whose texts are read together; a payload may have 64 KiB."""
HIT_BYTES = 48
"""Approximate bytes of a hit's JSON without its id and payload."""
PAGE_BYTES = 8 << 20
"""A page of items ends when it has this many bytes."""
Columns = list[list[str] | None]
"""For each row, the names of the columns that were used; None for a whole row."""
Form = Literal["float", "base64", "npy"]
_Sized = tuple[int, dict[str, Any]]
"""A hit or an item, after its approximate bytes of JSON."""
Windows = tuple[SegmentWindow, ...]
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def embeddings_response(
    collection: Collection, embeddings: Floats, form: Form, windows: Windows = (), columns: Columns | None = None
) -> Response:
    """{"version", "embeddings"}, each a list of numbers or base64 of little-endian float32; or (n, latent_dim) .npy.

    JSON also has the fields "windows", the place of each row if segments of recordings were cut, and "columns", the
    columns that were used for each row, null for a whole row.
    """
    if form == "npy":
        return _npy(collection, embeddings)
    end = _windows_json(windows) + (b"" if columns is None else b',"columns":' + orjson.dumps(columns)) + b"}"
    parts = _json_parts(collection.number, np.ascontiguousarray(embeddings, "<f4"), form, end)
    if embeddings.size <= PART_VALUES:
        return _respond(collection, b"".join(parts), JSON)
    return StreamingResponse(parts, media_type=JSON, headers=_headers(collection))


def _json_parts(number: int, embeddings: Floats, form: Form, end: bytes) -> Iterator[bytes]:
    size = max(1, PART_VALUES // max(1, embeddings.shape[1]))
    yield b'{"version":%d,"embeddings":[' % number
    for start in range(0, len(embeddings), size):
        block = embeddings[start : start + size]
        values = block if form == "float" else [b64encode(row.tobytes()).decode("ascii") for row in block]
        yield (b"," if start else b"") + orjson.dumps(values, option=_NUMPY)[1:-1]
    yield b"]" + end


def hits_response(
    collection: Collection,
    result: SearchResult,
    windows: Windows = (),
    *,
    with_payload: bool,
    as_npy: bool,
    most: int = 1 << 62,
    columns: Columns | None = None,
) -> Response:
    """{"version", "sequence", "results"}, or a (n, limit) array of records (id, score); a missing hit is "" and NaN.

    `windows`: the place of each query if segments of recordings were cut, for the field "windows". `columns`: the
    columns that each query used; the result of a part of a row has them. Raises TooLargeError if the answer would have
    more than about `most` bytes.
    """
    if as_npy:
        return _npy(collection, _records(collection, result), result.sequence)
    size = HIT_BYTES * result.positions.size
    if size <= PART_BYTES:
        size, results = 0, []
        for number, (hits, novelty) in enumerate(_results(collection, result, with_payload)):
            kept = []
            for length, hit in hits:
                size += length
                kept.append(hit)
            results.append({"hits": kept, "novelty": novelty} | _used(columns, number))
        if size <= PART_BYTES:
            answer: dict[str, Any] = {"version": collection.number, "sequence": result.sequence, "results": results}
            answer |= {"windows": _placed(windows)} if windows else {}
            return _respond(collection, orjson.dumps(answer), JSON, result.sequence)
    if with_payload:
        size = _size(collection.items, result)
    if size > most:
        raise TooLargeError("limit", expected=f"an answer of at most {most} bytes", found=f"about {size} bytes")
    parts = _hits_parts(collection, result, with_payload, windows, columns)
    return _in_parts(collection, parts, JSON, result.sequence)


def _results(collection: Collection, result: SearchResult, payload: bool) -> Iterator[tuple[Iterator[_Sized], float]]:
    """The hits and the novelty of each query."""
    queries = zip(result.scores.tolist(), result.positions.tolist(), result.novelty.tolist(), strict=True)
    for scores, positions, novelty in queries:
        yield _hits(collection.items, scores, positions, payload), novelty


def _size(items: Delta, result: SearchResult) -> int:
    """The approximate bytes of the hits' JSON, with their payloads."""
    positions, counts = np.unique(result.positions[result.positions >= 0], return_counts=True)
    lengths = (HIT_BYTES + items.payload_bytes(position) for position in positions.tolist())
    return sum(length * count for length, count in zip(lengths, counts.tolist(), strict=True))


def _hits_parts(
    collection: Collection, result: SearchResult, with_payload: bool, windows: Windows, columns: Columns | None
) -> Iterator[bytes]:
    yield b'{"version":%d,"sequence":%d,"results":[' % (collection.number, result.sequence)
    for number, (hits, novelty) in enumerate(_results(collection, result, with_payload)):
        yield b',{"hits":[' if number else b'{"hits":['
        yield from _listed(hits)
        yield b"]," + orjson.dumps({"novelty": novelty} | _used(columns, number))[1:]
    yield b"]" + _windows_json(windows) + b"}"


def _windows_json(windows: Windows) -> bytes:
    """The field "windows" after another field; nothing if no segment was cut."""
    return b',"windows":' + orjson.dumps(_placed(windows)) if windows else b""


def _placed(windows: Windows) -> list[dict[str, float]]:
    return [{"input": window.input, "start": window.start, "end": window.end} for window in windows]


def _used(columns: Columns | None, number: int) -> dict[str, list[str]]:
    """The field "columns" of a result; {} for a whole row."""
    used = None if columns is None else columns[number]
    return {} if used is None else {"columns": used}


def _listed(entries: Iterable[_Sized]) -> Iterator[bytes]:
    """Hits or items as JSON with commas between them, in parts."""
    block: list[dict[str, Any]] = []
    size, comma = 0, b""
    for length, entry in entries:
        block.append(entry)
        size += length
        if size >= PART_BYTES:
            yield comma + orjson.dumps(block)[1:-1]
            block, size, comma = [], 0, b","
    if block:
        yield comma + orjson.dumps(block)[1:-1]


def _in_parts(collection: Collection, parts: Iterator[bytes], media_type: str, sequence: int | None) -> Response:
    """A response that is written part by part, as fast as the client reads."""
    return StreamingResponse(_join(parts), media_type=media_type, headers=_headers(collection, sequence))


def _join(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of at least PART_BYTES, except the last."""
    joined, size = [], 0
    for part in parts:
        joined.append(part)
        size += len(part)
        if size >= PART_BYTES:
            yield b"".join(joined)
            joined, size = [], 0
    yield b"".join(joined)


def explained_response(collection: Collection, explained: dict[str, Any], sequence: int) -> Response:
    """{"version", "sequence", "score", "parts": [...]}."""
    answer = {"version": collection.number, "sequence": sequence, **explained}
    return _respond(collection, orjson.dumps(answer), JSON, sequence)


def written_response(number: int, sequence: int, count: int) -> Response:
    """{"version", "sequence", "count"}."""
    return _written({"version": number, "sequence": sequence, "count": count})


def put_response(number: int, sequence: int, count: int, clipped: Clipped) -> Response:
    """{"version", "sequence", "count", "clipped", "warnings": [{"id", "column", "value", "low", "high"}, ...]}."""
    fields = {"version": number, "sequence": sequence, "count": count}
    return _written(fields | {"clipped": clipped.count, "warnings": clipped.values})


def _written(fields: dict[str, Any]) -> Response:
    headers = {VERSION_HEADER: str(fields["version"]), SEQUENCE_HEADER: str(fields["sequence"])}
    return Response(orjson.dumps(fields), media_type=JSON, headers=headers)


def item_response(collection: Collection, position: int) -> Response:
    """{"version", "sequence", "id", "payload", "embedding"} of the collection's current item."""
    item = {"version": collection.number, "sequence": collection.applied, **_item(collection.items, position)}
    item["embedding"] = collection.vectors_at(np.array([position]))[0]
    return _respond(collection, orjson.dumps(item, option=_NUMPY), JSON, collection.applied)


def preview_response(collection: Collection, sequence: int, content: bytes, known: str | None) -> Response:
    """A WebP picture, which a client may keep and ask for again by its ETag; 304 if the client knows it already.

    `known`: the request's If-None-Match.
    """
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = _headers(collection, sequence) | {"ETag": tag, "Cache-Control": "private, no-cache"}
    if known is not None and (
        known.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in known.split(",")}
    ):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=WEBP, headers=headers)


def items_response(collection: Collection, positions: list[int], sequence: int, *, is_last: bool) -> Response:
    """{"version", "sequence", "items": [{"id", "payload"}, ...], "next"}, as of that change.

    The page ends early when it has PAGE_BYTES.
    """
    items, sizes, size = collection.items, list[int](), 0
    while len(sizes) < len(positions) and size < PAGE_BYTES:
        sizes.append(HIT_BYTES + items.payload_bytes(positions[len(sizes)]))
        size += sizes[-1]
    is_last = is_last and len(sizes) == len(positions)
    after = None if is_last else items.id_at(positions[len(sizes) - 1])
    parts = itertools.chain(
        [b'{"version":%d,"sequence":%d,"items":[' % (collection.number, sequence)],
        _listed((length, _item(items, position)) for length, position in zip(sizes, positions, strict=False)),
        [b'],"next":', orjson.dumps(after), b"}"],
    )
    if size <= PART_BYTES:
        return _respond(collection, b"".join(parts), JSON, sequence)
    return _in_parts(collection, parts, JSON, sequence)


def _item(items: Delta, position: int) -> dict[str, Any]:
    return {"id": items.id_at(position), "payload": orjson.Fragment(items.payload_json(position))}


def _hits(items: Delta, scores: list[float], positions: list[int], with_payload: bool) -> Iterator[_Sized]:
    for start in range(0, len(positions), HITS_READ):
        part = positions[start : start + HITS_READ]
        part_scores = scores[start : start + HITS_READ]
        if min(part) < 0:  # fewer hits than the limit
            part_scores = [score for score, position in zip(part_scores, part, strict=True) if position >= 0]
            part = [position for position in part if position >= 0]
        names = items.ids_at(part)
        if not with_payload:
            for name, score in zip(names, part_scores, strict=True):
                yield HIT_BYTES, {"id": name, "score": score}
            continue
        for name, score, text in zip(names, part_scores, items.payloads_json(part), strict=True):
            yield HIT_BYTES + len(text), {"id": name, "score": score, "payload": orjson.Fragment(text)}


def _records(collection: Collection, result: SearchResult) -> NDArray[Any]:
    ids = [[collection.items.id_at(p) if p >= 0 else "" for p in row] for row in result.positions.tolist()]
    width = max((len(name) for row in ids for name in row), default=1) or 1
    records = np.empty(result.positions.shape, [("id", f"<U{width}"), ("score", "<f4")])
    records["id"] = ids
    records["score"] = np.where(result.positions >= 0, result.scores, np.nan)
    return records


def _npy(collection: Collection, array: NDArray[Any], sequence: int | None = None) -> Response:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    whole = stream.getbuffer()
    if len(whole) <= PART_BYTES:
        return _respond(collection, bytes(whole), NPY, sequence)
    parts = (bytes(whole[start : start + PART_BYTES]) for start in range(0, len(whole), PART_BYTES))
    response = _in_parts(collection, parts, NPY, sequence)
    response.headers["Content-Length"] = str(len(whole))
    return response


def _respond(collection: Collection, body: bytes, media_type: str, sequence: int | None = None) -> Response:
    return Response(body, media_type=media_type, headers=_headers(collection, sequence))


def _headers(collection: Collection, sequence: int | None = None) -> dict[str, str]:
    """The version, and for answers about items the last change that the answer includes."""
    version = {VERSION_HEADER: str(collection.number)}
    return version if sequence is None else version | {SEQUENCE_HEADER: str(sequence)}
