"""The alignment of a retrained version with its parent: the map from the parent's embeddings, its recall, the churn.

The map is fitted on training rows. Its recall is measured with held-out rows among all items of the new version: the
mapped old embedding of a row must find the items that its new embedding finds.
"""

from pathlib import Path

import numpy as np

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.recall import K
from lookalike.index.versions.alignment import ALIGNMENT, FEWEST, churn, compose, fit_map, mapped, save_maps
from lookalike.index.versions.embed import embed
from lookalike.index.versions.manifest import Alignment
from lookalike.index.versions.version import Version
from lookalike.training.array_types import Floats
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.rows import evenly

__all__ = ["write_alignment"]

MOST_ROWS, MOST_ASKED = 20_000, 1_000


def write_alignment(
    folder: Path, embeddings: Embeddings, encoder: RowEncoder, parent: Version, *, rows: Floats, held: Floats
) -> Alignment | None:
    """Write the maps of a new version into its folder, and measure the map from its parent.

    `embeddings` are those of all items, by `encoder`. The map is fitted on `rows`, (n, width), or on a sample of many.
    It is measured with `held`, (m, width): the recall is the share of the 10 nearest items of a row that its mapped old
    embedding finds, the churn is the share of a row's 10 nearest items that changed. If there are too few rows to fit a
    map, nothing is written and None is returned.
    """
    metric = parent.metric
    rows, held = rows[evenly(len(rows), MOST_ROWS)], held[evenly(len(held), MOST_ASKED)]
    if len(rows) < FEWEST or not len(held):
        return None
    old, new = embed(parent.encoder, rows, metric), embed(encoder, rows, metric)
    fitted = fit_map(old, new, metric)
    save_maps(folder / ALIGNMENT, compose(parent.maps, parent.number, fitted.matrix))
    wanted = embeddings.nearest(embed(encoder, held, metric), K)[1]  # (m, K)
    found = embeddings.nearest(mapped(embed(parent.encoder, held, metric), fitted.matrix, metric), K)[1]
    same = [len(np.intersect1d(one, other)) / len(one) for one, other in zip(wanted, found, strict=True)]
    recall, changed = float(np.mean(same)), churn(old, new, metric)
    return Alignment(
        older=parent.number, kind=fitted.kind, fitted=len(rows), recall=recall, queries=len(held), churn=changed
    )
