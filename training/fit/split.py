"""Split the rows into a training and a held-out part. Equal rows stay in the same part.

Windows of recordings are held out by recording. No training window overlaps a held-out window.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lookalike.training.array_types import Booleans, Doubles, Floats, Integers
from lookalike.training.config import TrainConfig
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows, evenly, fingerprints, read_at, sampled
from lookalike.training.rows.recording_holdout import fill_groups, hold_out_recordings
from lookalike.training.tables.origin import EXACT, Origin, find_origin, is_blurred, is_coarse, is_merged
from lookalike.training.transforms import Interval, WindowTransform, interval_of, overlapping

__all__ = ["Split", "hold_out", "split_rows"]

SAMPLE_VALUES = 1 << 20
"""Values in the sample from which a column's origin and resolution are estimated: 8 MiB as float64."""
COMPARED = 1_000
"""Sample rows that are compared with their float32 values: among more rows, some become equal by chance."""


@dataclass(frozen=True)
class Split:
    """Raw rows, (n, width) float32 minus the origin, and labels (None for an unlabeled row), split in two parts.

    Attributes:
        places: the positions in the source, from 0, of the training rows and of the validation rows.
        origin: the values subtracted from each row (training.tables.origin).
        blurred: the columns whose distinct values become equal in float32.
    """

    train: Floats
    validation: Floats
    train_labels: list[Any]
    validation_labels: list[Any]
    places: tuple[Integers, Integers]
    origin: Origin = None
    blurred: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return the SHA-256 of the origin, the training rows and the validation rows, in this order."""
        digest = hashlib.sha256(b"" if self.origin is None else self.origin.tobytes())
        for part in (self.train, self.validation):
            digest.update(part.data)
        return digest.hexdigest()


def split_rows(
    rows: Rows,
    config: TrainConfig,
    *,
    shown: bool = True,
    held: Integers | None = None,
    without: Integers | None = None,
) -> Split:
    """Read the rows (a sample if they exceed `data.max_bytes`) and hold some out, chosen by the seed.

    No held-out row also occurs among the training rows, unless all rows are equal. Windows of recordings are held out
    as `hold_out_recordings` says, and training windows that overlap held-out windows are left out. If the source holds
    finer values than float32, a sample is read first to find the origin, unless the rows have an origin or
    `data.scale` is "none".

    Raises DataError for a bad row, for fewer than two rows, and if no rows or all rows are held out.

    Args:
        shown: show a progress bar on standard error.
        held: (m,) ascending positions of the rows to hold out; None holds out a random share of `data.validation`.
        without: positions of rows to leave out.
    """
    if rows.count < 2:
        expected = "at least 2 rows, one to train on and one to validate on"
        raise DataError(rows.name, expected=expected, found=str(rows.count))
    rows, blurred = _measured(rows, config)
    with progress_bar("reading", rows.count, "rows", shown=shown) as advance:
        features = sum(max(1, len(column.values)) for column in rows.columns) or rows.width  # a category has many
        most = max(2, config.data.max_bytes // (4 * max(1, features)))
        places = sampled(rows.count, most, config.fit.seed)
        places = places if held is None else np.union1d(places, held)
        places = places if without is None else np.setdiff1d(places, without)
        inputs, notes = read_at(rows, places, advance, note=partial(_notes, rows.group))
    labels, intervals = [label for label, _ in notes], [interval for _, interval in notes]
    blurred = blurred | is_coarse(inputs[evenly(len(inputs), _sample_rows(rows))])
    share, seed = config.data.validation, config.fit.seed
    if held is not None:
        is_held = np.isin(places, held)
    elif rows.group:
        is_held = hold_out_recordings(intervals, share, seed)
    else:
        is_held = hold_out(inputs, share, seed)
    is_left_out = overlapping(intervals, is_held)
    if rows.group and held is None:  # equal windows, such as those of silence, are in several recordings
        is_left_out |= is_held & np.isin(prints := fingerprints(inputs), prints[~is_held & ~is_left_out])
    is_held &= ~is_left_out
    if not is_held.any() or (is_held | is_left_out).all():
        found = "all rows" if is_held.any() else "no rows"
        raise DataError(rows.name, expected="some rows held out, and others to train on", found=f"{found} held out")
    kept, held = np.flatnonzero(~is_held & ~is_left_out), np.flatnonzero(is_held)
    parts = inputs[kept], inputs[held], [labels[i] for i in kept], [labels[i] for i in held]
    names = tuple(rows.columns[place].name if rows.columns else str(place) for place in np.flatnonzero(blurred))
    return Split(*parts, (places[kept], places[held]), rows.origin, names)


def _measured(rows: Rows, config: TrainConfig) -> tuple[Rows, Booleans]:
    """Return the rows minus their origin, and in which columns float32 still merges distinct values, (width,) bool."""
    if rows.origin is not None or not rows.needs_float64:
        return rows, np.zeros(rows.width, np.bool_)
    places = sampled(rows.count, _sample_rows(rows), config.fit.seed)
    sample, _ = read_at(rows, places, dtype=np.float64)
    merged = np.zeros(rows.width, np.bool_)
    if rows.dtype in (np.int64, np.uint64) and (np.abs(sample) > EXACT).any():  # requests and the log have float64
        whole, _ = read_at(rows, places[evenly(len(places), COMPARED)], dtype=rows.dtype.type)
        merged = is_merged(whole)
    rows = rows.measured_from(None if config.data.scale == "none" else _find_origin(rows, sample))
    if isinstance(rows.transform, WindowTransform):  # two windows differ although some of their samples become equal
        return rows, np.zeros(rows.width, np.bool_)
    return rows, merged | is_blurred(sample[evenly(len(sample), COMPARED)], rows.origin)


def _find_origin(rows: Rows, sample: Doubles) -> Origin:
    """Return each column's origin; in windows, all samples of a channel have the same."""
    if not isinstance(rows.transform, WindowTransform):
        return find_origin(sample)
    origin = find_origin(sample.reshape(-1, len(rows.transform.channels)))
    return None if origin is None else np.tile(origin, rows.transform.window)


def _sample_rows(rows: Rows) -> int:
    return max(2, SAMPLE_VALUES // max(1, rows.width))


def hold_out(rows: Floats, share: float, seed: int) -> Booleans:
    """Return which rows of (n, width), n >= 2, to hold out: (n,) bool, at least one and not all.

    If all rows differ, this is `share` of them, rounded; the choice depends only on n and the seed. Equal rows stay
    together, and a group of equal rows that is larger than the remaining share is skipped.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    cut = min(len(rows) - 1, max(1, round(len(rows) * share)))
    held = np.zeros(len(rows), np.bool_)
    _, first, kinds = np.unique(fingerprints(rows)[order], return_index=True, return_inverse=True)
    if len(first) == 1:
        held[order[:cut]] = True
        return held
    shuffled = np.argsort(first)  # groups of equal rows, in the order of their first row in the permutation
    sizes = np.bincount(kinds)[shuffled]
    chosen = np.zeros(len(first), np.bool_)
    chosen[shuffled] = fill_groups(sizes, cut)
    held[order] = chosen[kinds]
    return held


def _notes(group: str | None, chunk: Chunk) -> list[tuple[Any, Interval | None]]:
    """Return the label and the interval of each row of a chunk."""
    intervals = [interval_of(payload, group) for payload in chunk.payloads] if group else [None] * len(chunk.ids)
    return list(zip(chunk.labels(), intervals, strict=True))
