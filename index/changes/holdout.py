"""Choose held-out rows to compare two encoders on: neither the older nor the newer encoder is trained on them.

Rows are compared by their sketches (training.rows). Held out are the rows that the older encoder held out, as far as
they still exist, and a share of the rows that it never saw. The share is drawn by the sketch itself, so equal rows stay
together. A row is not new if its input was anywhere in the older training data, under any id.

New windows of recordings are held out by recording, or at the end of each, as in the first training. Windows that
overlap or equal windows of the older training are not held out.
"""

from itertools import compress
from pathlib import Path

import numpy as np

from lookalike.index.changes.inputs import stacked
from lookalike.index.changes.training_snapshot import Sketches, TrainingSnapshot, changes
from lookalike.training.array_types import Booleans, Integers
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.rows import sketches
from lookalike.training.rows.recording_holdout import hold_out_recordings
from lookalike.training.transforms import overlapping

__all__ = ["choose_holdout"]

KNOWN = 0.5
"""If less than this share of the encoder's held-out rows exists, it was trained on other data: all rows are new."""
LISTED = 8_192
"""An encoder lists at most this many held-out rows (training.fit.fitting): a smaller share of more data."""


def choose_holdout(
    snapshot: TrainingSnapshot, encoder: Encoder, store: Path, *, trained_to: int, share: float, seed: int
) -> Integers:
    """(m,) rising: the positions of the rows to hold out.

    `encoder` is the older encoder, `trained_to` the last change of the store's log that it was trained on, and `share`
    the share of the new rows to hold out.
    """
    found = snapshot.sketches
    seen = np.unique(np.concatenate([snapshot.before, *_of_log(snapshot, store, trained_to)]))
    listed = np.unique(encoder.held_out)
    known = listed[np.isin(listed, seen)]
    if not len(listed) or len(known) < KNOWN * len(listed):
        seen, known = seen[:0], known[:0]
    if len(encoder.held_out) >= LISTED and len(seen):
        share = min(share, len(known) / len(seen))  # so that old and new rows are held out in equal shares
    new, held = ~np.isin(found, seen), np.isin(found, known)
    if not len(snapshot.intervals):
        return np.flatnonzero(held | (new & _drawn(found, share, seed)))
    if new.sum() > 1:
        held[new] = hold_out_recordings(list(compress(snapshot.intervals, new)), share, seed)
        held &= ~(new & overlapping(snapshot.intervals, ~new & ~held))
    return np.flatnonzero(held & ~np.isin(found, found[~held]))


def _of_log(snapshot: TrainingSnapshot, store: Path, upto: int) -> list[Sketches]:
    return [
        sketches(stacked((change.input for change in batch), snapshot.rows.origin))
        for batch in (changes(store, upto, snapshot.rows) if upto else ())
        if not all(change.is_delete for change in batch)
    ]


def _drawn(prints: Sketches, share: float, seed: int) -> Booleans:
    """(n,): about `share` of the rows, and always the same ones (the mixer of S. Vigna's SplitMix64)."""
    mixed = prints + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % (1 << 64))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    drawn: Booleans = mixed < np.uint64(min(int(share * 2.0**64), (1 << 64) - 1))
    return drawn
