"""Held-out rows to compare two encoders on: rows that the older was not trained on, and the newer shall not be.

They are known by their sketches (training.rows): those that the older encoder held out, as far as they are still there,
and of the rows that it never met a share, drawn by the sketch itself, so that equal rows stay together. A row whose
input stood anywhere in what the older was trained on, under whatever id, is not new.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.index.changes.inputs import stacked
from lookalike.index.changes.training_snapshot import TrainingSnapshot, changes
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.rows import sketches

__all__ = ["choose_holdout"]

KNOWN = 0.5
"""An encoder of whose held-out rows fewer are there was trained on other data: then all rows are new to it."""
LISTED = 8_192
"""So many held-out rows an encoder lists at most (training.fit.fitting); of more data, that is a smaller share."""

Sketches = NDArray[np.uint64]


def choose_holdout(
    overlaid: TrainingSnapshot, encoder: Encoder, store: Path, *, trained_to: int, share: float, seed: int
) -> NDArray[np.int64]:
    """(m,) rising: where the rows to hold out stand among all.

    Args:
        encoder: the older one.
        trained_to: up to which change of the store's log its data went.
        share: of the rows that are new to it.
    """
    found = overlaid.sketches
    met = np.unique(np.concatenate([overlaid.before, *_of_log(overlaid, store, trained_to)]))
    listed = np.unique(encoder.held_out)
    known = listed[np.isin(listed, met)]
    if not len(listed) or len(known) < KNOWN * len(listed):
        met, known = met[:0], known[:0]
    if len(encoder.held_out) >= LISTED and len(met):
        share = min(share, len(known) / len(met))  # the held-out rows shall lie evenly over all
    new = ~np.isin(found, met) & _drawn(found, share, seed)
    return np.flatnonzero(np.isin(found, known) | new)


def _of_log(overlaid: TrainingSnapshot, store: Path, upto: int) -> list[Sketches]:
    return [
        sketches(stacked((change.input for change in batch), overlaid.rows.origin))
        for batch in (changes(store, upto, overlaid.rows) if upto else ())
        if not all(change.is_delete for change in batch)
    ]


def _drawn(prints: Sketches, share: float, seed: int) -> NDArray[np.bool_]:
    """(n,): about that share of them, and always the same ones (the mixer of S. Vigna's SplitMix64)."""
    mixed = prints + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % (1 << 64))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    drawn: NDArray[np.bool_] = mixed < np.uint64(min(int(share * 2.0**64), (1 << 64) - 1))
    return drawn
