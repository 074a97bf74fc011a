"""From rows and an encoder to a measured version in the store."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import EMBEDDINGS, Embeddings, read_embeddings
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.ann.tune import SECONDS, tune
from lookalike.index.items.table import ItemWriter, read_items
from lookalike.index.versions.embed import embed, suited
from lookalike.index.versions.embedding_cache import CachedEmbeddings, embed_with_cache, open_cache
from lookalike.index.versions.novelty import NEIGHBOURS, Novelty, item_distances, local_distances, reconstruction_errors
from lookalike.index.versions.searching import Searcher
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import CANARY, CANARY_LIMIT, HELD, INDEX, LOCAL_SCALE, NOVELTY, canary_answer
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ArtifactError
from lookalike.training.rows import Rows, evenly
from lookalike.training.sealed import staging

__all__ = ["Beside", "build", "encoder_folder"]

Beside = Callable[[Path, Embeddings], dict[str, Any]]

QUERIES = 1_000
"""Held-out rows that the index is tuned with."""
FEW = 200_000
"""Items up to which all kinds of index are tried, if they can be within this many seconds an item."""
SECONDS_A_ROW, LEAST_SECONDS = 1e-3, 2.0
SECONDS_A_ROW_OF_MANY, LEAST_SECONDS_OF_MANY = 2e-6, 2.0
"""A share of what the build takes."""
COPIED = 1 << 16
HELD_BYTES = 1 << 25
"""Held-out rows that go with the version, to ask it with later: 32 MiB of them at most."""


def build(
    rows: Rows,
    encoder_at: Path,
    store: Store,
    *,
    metric: Metric = "cosine",
    target: Target | None = None,
    device: DeviceName = "auto",
    beside: Beside | None = None,
) -> int:
    """Embed `rows`, build the index that the target asks for, measure it on rows held out of it, add those, publish.

    Interrupted, it goes on where it was when it is called again: embeddings that stand on disk are not made again.

    Args:
        encoder_at: a run's folder, or an encoder artifact's.
        target: recall of 0.95 at least, where none is given.
        beside: writes what else shall go with the version into its folder, given its embeddings; what it returns
            stands in the manifest beside, or in place of, what is said there.

    Returns:
        The new version's number. It serves only once it is promoted.

    Raises:
        DataError, ArtifactError, ConfigError, QueryError, TargetError: no version was added.
    """
    target = target or Target()
    source = encoder_folder(encoder_at)
    rows = suited(rows, load_encoder(source, device))  # before anything is written
    with staging(store.versions) as folder:
        shutil.copytree(source, folder / "encoder")
        encoder = load_encoder(folder / "encoder", device)  # the copy: a run that goes on may replace the other
        with open_cache(store.folder, rows, encoder, metric) as work:
            items = ItemWriter(folder, rows.name)
            gathered = embed_with_cache(rows, encoder, metric, work, items)
            items.close(last=gathered.is_held)
            embeddings = _laid_out(folder, gathered, metric)
            kept = embeddings.head(rows.count - len(gathered.held))
            late = np.arange(len(kept), rows.count)
            some = evenly(len(late), QUERIES)
            tuned = tune(kept, embeddings.at(late[some]), target, total=rows.count, seconds=_seconds(rows.count))
            table = read_items(folder)
            local_scale = item_distances(embeddings, len(kept))
            np.save(folder / LOCAL_SCALE, local_scale)
            searcher = Searcher(tuned.index, kept, table)
            _calibrated(searcher, local_scale, gathered, encoder, embeddings.at(late)).save(folder / NOVELTY)
            index = tuned.index
            index.add(embeddings.at(late))
        index.write(folder / INDEX)
        np.save(folder / CANARY, gathered.first)
        some = evenly(len(late), min(QUERIES, max(1, HELD_BYTES // (4 * rows.width))))
        np.save(folder / HELD, gathered.held_rows[some])
        asked = embed(encoder, gathered.first, metric)
        scores, positions = Searcher(index, embeddings, table).search(asked, NEIGHBOURS)  # as Version.search will
        header = {
            "encoder": encoder.digest,
            "index": dataclasses.asdict(index.spec),
            "items": rows.count,
            "sequence": 0,  # what was put into the store stands beside these rows, and counts before them
            "held": late[some].tolist(),
            "data": {
                "name": rows.name,
                "rows": rows.count,
                "shape": list(rows.shape),
                "sha256": gathered.digest,
            },
            "columns": encoder.header.get("columns", []),
            "evidence": tuned.evidence,
            "tuning": tuned.told(target),
            "answer": canary_answer(table, scores[0, :CANARY_LIMIT], positions[0, :CANARY_LIMIT]),
        }
        return store.publish(folder, {**header, **(beside(folder, embeddings) if beside else {})})


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


def _laid_out(folder: Path, gathered: CachedEmbeddings, metric: Metric) -> Embeddings:
    """Write the embeddings in the order of the index, the held-out rows' last, and map them."""
    vectors, held = gathered.embeddings, gathered.is_held
    with (folder / EMBEDDINGS).open("wb") as file:
        npy.write_array_header_1_0(file, {"shape": vectors.shape, "fortran_order": False, "descr": "<f4"})
        for start in range(0, len(vectors), COPIED):
            part = slice(start, start + COPIED)
            file.write(vectors[part][~held[part]].tobytes())
        file.write(vectors[gathered.held].tobytes())
    return read_embeddings(folder, metric, vectors.shape[1])


def _calibrated(
    searcher: Searcher,
    local_scale: NDArray[np.float32],
    gathered: CachedEmbeddings,
    encoder: Encoder,
    held: NDArray[np.float32],
) -> Novelty:
    """How far off the held-out rows are, whose embeddings, (m, latent_dim), are not in the index yet."""
    scores, positions = searcher.search(held, NEIGHBOURS)
    distances = local_distances(scores, local_scale[np.maximum(positions, 0)], searcher.metric)
    return Novelty.calibrate(reconstruction_errors(encoder, gathered.held_rows), distances)


def _seconds(count: int) -> float:
    """How long the tuner may choose."""
    if count > FEW:
        return max(LEAST_SECONDS_OF_MANY, SECONDS_A_ROW_OF_MANY * count)
    return min(SECONDS, max(LEAST_SECONDS, SECONDS_A_ROW * count))
