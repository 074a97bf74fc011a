"""Part the rows for good: most to train on, some held out. Equal rows stay together, on one side."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.config import TrainConfig
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Rows, evenly, fingerprints, read_at, sampled
from lookalike.training.tables.origin import Origin, find_origin, is_blurred, is_coarse

__all__ = ["Split", "hold_out", "split_rows"]

SAMPLE_VALUES = 1 << 20
"""Values in the sample that a column's origin and resolution are found by: 8 MiB as float64."""
COMPARED = 1_000
"""Rows of the sample that are compared with their float32: of more rows, some become equal by chance."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Raw rows, (n, width) float32 less the origin, and labels (None if a row has none), parted for good.

    Attributes:
        places: the numbers, from 0, of the training rows and of the validation rows in the source.
        origin: what was subtracted from each row (training.tables.origin).
        blurred: the columns in which float32 does not hold what tells values apart.
    """

    train: NDArray[np.float32]
    validation: NDArray[np.float32]
    train_labels: list[Any]
    validation_labels: list[Any]
    places: tuple[Places, Places]
    origin: Origin = None
    blurred: tuple[str, ...] = ()

    def digest(self) -> str:
        """The SHA-256 of all rows, as they were parted, and of the origin."""
        digest = hashlib.sha256(b"" if self.origin is None else self.origin.tobytes())
        for part in (self.train, self.validation):
            digest.update(part.data)
        return digest.hexdigest()


def split_rows(
    rows: Rows, config: TrainConfig, *, shown: bool = True, held: Places | None = None, without: Places | None = None
) -> Split:
    """Read the rows (a sample where they exceed `data.max_bytes`) and hold some out, by the seed.

    No held-out row stands among the training rows, unless all rows are equal. If the source holds finer values than
    float32, it is read once more, before, to find the origin, unless the rows have one, or with `data.scale=none`.

    Args:
        shown: a progress bar on standard error.
        held: (m,) rising, the rows to hold out, all of which are read; None for `data.validation` of them, by chance.
        without: which rows to leave out.

    Raises:
        DataError: a bad row, fewer than two rows, or none or all of them held out.
    """
    if rows.count < 2:
        raise DataError(
            rows.name, expected="at least 2 rows, one to train on and one to validate on", found=str(rows.count)
        )
    rows, blurred = _measured(rows, config)
    with progress_bar("reading", rows.count, "rows", shown=shown) as advance:
        features = sum(max(1, len(column.values)) for column in rows.columns) or rows.width  # a category is many
        most = max(2, config.data.max_bytes // (4 * max(1, features)))
        places = sampled(rows.count, most, config.fit.seed)
        places = places if held is None else np.union1d(places, held)
        places = places if without is None else np.setdiff1d(places, without)
        inputs, labels = read_at(rows, places, advance)
    blurred = blurred | is_coarse(inputs[evenly(len(inputs), _sample_rows(rows))])
    out = hold_out(inputs, config.data.validation, config.fit.seed) if held is None else np.isin(places, held)
    if out.all() or not out.any():
        found = "all of them" if out.all() else "none"
        raise DataError(rows.name, expected="some rows held out, and others to train on", found=f"{found} held out")
    kept, held = np.flatnonzero(~out), np.flatnonzero(out)
    parts = inputs[kept], inputs[held], [labels[i] for i in kept], [labels[i] for i in held]
    names = tuple(rows.columns[place].name if rows.columns else str(place) for place in np.flatnonzero(blurred))
    return Split(*parts, (places[kept], places[held]), rows.origin, names)


def _measured(rows: Rows, config: TrainConfig) -> tuple[Rows, NDArray[np.bool_]]:
    """The rows less their origin, and in which columns float32 still makes values equal, (width,)."""
    if rows.origin is not None or not rows.needs_float64:
        return rows, np.zeros(rows.width, np.bool_)
    sample, _ = read_at(rows, sampled(rows.count, _sample_rows(rows), config.fit.seed), dtype=np.float64)
    rows = rows.measured_from(None if config.data.scale == "none" else find_origin(sample))
    return rows, is_blurred(sample[evenly(len(sample), COMPARED)], rows.origin)


def _sample_rows(rows: Rows) -> int:
    """How many rows a sample of `SAMPLE_VALUES` has."""
    return max(2, SAMPLE_VALUES // max(1, rows.width))


def hold_out(rows: NDArray[np.float32], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows of (n, width), n >= 2, to hold out: (n,) bool, at least one and not all.

    Where all rows differ, `share` of them, to the nearest; which ones follows from n and the seed alone. Equal
    rows are taken together, and what is too many for the share is passed over.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    cut = min(len(rows) - 1, max(1, round(len(rows) * share)))
    held = np.zeros(len(rows), np.bool_)
    _, first, kinds = np.unique(fingerprints(rows)[order], return_index=True, return_inverse=True)
    if len(first) == 1:
        held[order[:cut]] = True
        return held
    by_chance = np.argsort(first)  # kinds of rows, in the order in which chance first met them
    sizes = np.bincount(kinds)[by_chance]
    chosen = np.zeros(len(first), np.bool_)
    chosen[by_chance] = _fill(sizes, cut)
    held[order] = chosen[kinds]
    return held


def _fill(sizes: NDArray[np.int64], target: int) -> NDArray[np.bool_]:
    """Which groups to take, in their order and passing over what no longer fits, to come near `target` rows.

    At least one and not all; there must be two.
    """
    taken, room = np.zeros(len(sizes), np.bool_), target
    while len(fitting := np.flatnonzero(~taken & (sizes <= room))):
        fitting = fitting[np.cumsum(sizes[fitting]) <= room]
        taken[fitting] = True
        room -= int(sizes[fitting].sum())
    left = np.flatnonzero(~taken)
    least = left[np.argmin(sizes[left])]
    if len(left) > 1 and (room == target or sizes[least] - room < room):  # a little too many is nearer
        taken[least] = True
    return taken
