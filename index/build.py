"""From rows and an encoder to a measured version in the store."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from index.embed import embed, suited
from index.embeddings import EMBEDDINGS, Embeddings, read_embeddings
from index.gather import Gathered, gather, workplace
from index.items import ItemTable, ItemWriter, read_items
from index.searching import Searcher
from index.spec import Metric
from index.store import Store
from index.tune import SECONDS, Target, Tuned, tune
from index.version import INDEX, KNOWN_LIMIT, QUESTION, known_answer
from training.artifact import DeviceName, Encoder, load_encoder
from training.errors import ArtifactError
from training.rows import Rows
from training.sealed import staging

__all__ = ["build", "encoder_folder"]

QUERIES = 1_000
"""Held-out rows that the index is tuned with."""
FEW = 200_000
"""Items up to which the tuner has its full time; beyond, a share of what the build takes."""
SECONDS_A_ROW = 4e-6
LEAST_SECONDS = 4.0
COPIED = 1 << 16


def build(
    rows: Rows,
    encoder_at: Path,
    store: Store,
    *,
    metric: Metric = "cosine",
    target: Target | None = None,
    device: DeviceName = "auto",
) -> int:
    """Embed `rows`, build the index that the target asks for, measure it on rows held out of it, add those, publish.

    Interrupted, it goes on where it was when it is called again: embeddings that stand on disk are not made again.

    Args:
        encoder_at: a run's folder, or an encoder artifact's.
        target: recall of 0.95 at least, where none is given.

    Returns:
        The new version's number. It serves only once it is promoted.

    Raises:
        DataError, ArtifactError, ConfigError, QueryError, TargetError: no version was added.
    """
    source = encoder_folder(encoder_at)
    rows = suited(rows, load_encoder(source, device))  # before anything is written
    with staging(store.versions) as folder:
        shutil.copytree(source, folder / "encoder")
        encoder = load_encoder(folder / "encoder", device)  # the copy: a run that goes on may replace the other
        with workplace(store.folder, rows, encoder, metric) as work:
            items = ItemWriter(folder, rows.name)
            gathered = gather(rows, encoder, metric, work, items)
            embeddings = _laid_out(folder, gathered, metric)
            items.close(last=_mask(gathered))
            tuned = _indexed(folder, embeddings, len(gathered.held), target or Target())
        np.save(folder / QUESTION, gathered.first)
        searcher = Searcher(tuned.index, embeddings, table := read_items(folder))
        return store.publish(folder, _header(rows, encoder, gathered, tuned, target or Target()) | _answer(...))


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
