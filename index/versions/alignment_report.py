"""What a version says of the one that it was made from: the map from its embeddings, and how much changed between both.

The map is fitted on rows that were trained on. How much it finds is asked with rows that were not, among all items of
the new version: mapped, an old embedding must find what the row embedded anew finds.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.recall import K
from lookalike.index.versions.alignment import ALIGNMENT, FEWEST, churn, compose, fit_map, mapped, save_maps
from lookalike.index.versions.embed import embed
from lookalike.index.versions.manifest import Alignment
from lookalike.index.versions.version import Version
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.rows import evenly

__all__ = ["write_alignment"]

MOST_ROWS, MOST_ASKED = 20_000, 1_000

Floats = NDArray[np.float32]


def write_alignment(
    folder: Path, embeddings: Embeddings, encoder: Encoder, parent: Version, *, rows: Floats, held: Floats
) -> Alignment | None:
    """Write the maps of a new version into its folder; return what the manifest says of the map from its parent.

    Args:
        embeddings: of all items, by `encoder`.
        rows: (n, width) rows to fit on; a sample is used if there are many.
        held: (m, width) rows to measure with: the recall is the share of the 10 nearest items of a row that its mapped
            old embedding finds, the churn is the share of a row's 10 nearest items that changed.

    Returns:
        None if there are too few rows to fit a map; nothing is written.
    """
    metric = parent.metric
    rows, held = rows[evenly(len(rows), MOST_ROWS)], held[evenly(len(held), MOST_ASKED)]
    if len(rows) < FEWEST or not len(held):
        return None
    old, new = (embed(one, rows, metric) for one in (parent.encoder, encoder))
    found = fit_map(old, new, metric)
    save_maps(folder / ALIGNMENT, compose(parent.maps, parent.number, found.matrix))
    wanted = embeddings.nearest(embed(encoder, held, metric), K)[1]  # (m, K)
    got = embeddings.nearest(mapped(embed(parent.encoder, held, metric), found.matrix, metric), K)[1]
    same = [len(np.intersect1d(one, other)) / len(one) for one, other in zip(wanted, got, strict=True)]
    return Alignment(
        older=parent.number,
        kind=found.kind,
        fitted=len(rows),
        recall=float(np.mean(same)),
        queries=len(held),
        churn=churn(old, new, metric),
    )
