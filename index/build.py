"""From rows and an encoder to a measured version in the store."""

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.embed import embed, embed_chunks, suited
from index.items import ItemWriter, read_items
from index.measure import Measured, measure
from index.spec import IndexChoice, Metric, choose_spec
from index.store import Store
from index.vectors import VectorIndex
from index.version import INDEX, KNOWN_LIMIT, QUESTION, known_answer
from training.artifact import DeviceName, Encoder, load_encoder
from training.errors import ArtifactError
from training.rows import Chunk, Rows
from training.sealed import staging

__all__ = ["build", "encoder_folder"]

QUERIES = 1_000


def build(
    rows: Rows,
    encoder_at: Path,
    store: Store,
    *,
    metric: Metric = "cosine",
    kind: IndexChoice = "auto",
    device: DeviceName = "auto",
) -> int:
    """Embed `rows`, index them, measure the index on rows held out of it, add those too, and publish.

    Args:
        encoder_at: a run's folder, or an encoder artifact's.

    Returns:
        The new version's number. It serves only once it is promoted.

    Raises:
        DataError, ArtifactError, ConfigError, QueryError: the store is as it was.
    """
    source = encoder_folder(encoder_at)
    rows = suited(rows, load_encoder(source, device))  # before anything is written
    spec = choose_spec(rows.count, metric, kind)
    with staging(store.versions) as folder:
        shutil.copytree(source, folder / "encoder")
        encoder = load_encoder(folder / "encoder", device)  # the copy: a run that goes on may replace the other
        index = VectorIndex(spec, encoder.latent_dim)
        question, evidence, digest = _fill(folder, index, rows, encoder)
        index.write(folder / INDEX)
        np.save(folder / QUESTION, question)
        scores, positions = index.search(embed(encoder, question, metric), KNOWN_LIMIT)
        answer = known_answer(read_items(folder), scores[0], positions[0])
        header = {
            "encoder": encoder.digest,
            "index": dataclasses.asdict(spec),
            "items": len(index),
            "data": {"name": rows.name, "rows": rows.count, "shape": list(rows.shape), "sha256": digest},
            "columns": encoder.header.get("columns", []),
            "evidence": dataclasses.asdict(evidence),
            "answer": answer,
        }
        return store.publish(folder, header)


def encoder_folder(at: Path) -> Path:
    """The encoder artifact in a run's folder, or the folder itself."""
    inner = at / "encoder"
    if not (inner if inner.is_dir() else at).is_dir():
        raise ArtifactError(
            str(at),
            expected="a run's folder or an encoder's",
            found="none at that path",
            remedy="Train one with `lookalike train`.",
        )
    return inner if inner.is_dir() else at


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Some items with their embeddings, (n, latent)."""

    ids: list[str]
    payloads: list[dict[str, Any]]
    embeddings: NDArray[np.float32]


def _fill(folder: Path, index: VectorIndex, rows: Rows, encoder: Encoder) -> tuple[NDArray[np.float32], Measured, str]:
    """Add all rows but the held-out ones, measure, then add those; returns question, evidence, digest."""
    writer = ItemWriter(folder, rows.name)
    digest = hashlib.sha256()
    chosen = _held_out(rows.count)
    held: list[_Batch] = []
    question = np.empty((0, rows.width), np.float32)
    first = 0
    for chunk, embeddings in embed_chunks(rows, encoder, index.spec.metric):
        digest.update(chunk.inputs.data)
        question = chunk.inputs[:1].copy() if first == 0 else question
        out = np.isin(np.arange(first, first + len(chunk.ids)), chosen)
        _add(index, writer, _select(chunk, embeddings, ~out))
        held.append(_select(chunk, embeddings, out))
        first += len(chunk.ids)
    evidence = _measure(index, np.concatenate([batch.embeddings for batch in held]))
    for batch in held:
        _add(index, writer, batch)
    writer.close()
    return question, evidence, digest.hexdigest()


def _add(index: VectorIndex, writer: ItemWriter, batch: _Batch) -> None:
    index.add(batch.embeddings)
    writer.write(batch.ids, batch.payloads)


def _measure(index: VectorIndex, queries: NDArray[np.float32]) -> Measured:
    """On the held-out queries; where there are too few rows to hold any out, on the items themselves."""
    if len(queries):
        return measure(index, queries)[0]
    everyone = np.arange(len(index))
    return measure(index, index.reconstruct(everyone), everyone)[0]


def _held_out(count: int) -> NDArray[np.int64]:
    """Positions of up to 1,000 rows, at most a tenth; none where there are fewer than ten."""
    chosen = np.random.default_rng(0).choice(count, min(QUERIES, count // 10), replace=False)
    return np.sort(chosen)


def _select(chunk: Chunk, embeddings: NDArray[np.float32], keep: NDArray[np.bool_]) -> _Batch:
    kept = np.flatnonzero(keep)
    return _Batch([chunk.ids[i] for i in kept], [chunk.payloads[i] for i in kept], embeddings[kept])
