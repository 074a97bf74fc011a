"""Part the rows for good: most to train on, some held out. Equal rows stay together, on one side."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig
from training.errors import DataError
from training.progress import progress_bar
from training.rows import Rows, fingerprints, read_at, sampled

__all__ = ["Split", "hold_out", "split_rows"]


Places = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Raw rows, (n, width) float32, and labels (None where a row has none), parted for good.

    Attributes:
        places: the numbers, from 0, of the training rows and of the validation rows in the source.
    """

    train: NDArray[np.float32]
    validation: NDArray[np.float32]
    train_labels: list[Any]
    validation_labels: list[Any]
    places: tuple[Places, Places]

    def digest(self) -> str:
        """The SHA-256 of all rows, as they were parted."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation):
            digest.update(part.data)
        return digest.hexdigest()


def split_rows(
    rows: Rows, config: TrainConfig, *, shown: bool = True, held: Places | None = None, without: Places | None = None
) -> Split:
    """Read the rows (a sample where they exceed `data.max_bytes`) and hold some out, by the seed.

    No held-out row stands among the training rows, unless all rows are equal.

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
    with progress_bar("reading", rows.count, "rows", shown=shown) as advance:
        features = sum(max(1, len(column.values)) for column in rows.columns) or rows.width  # a category is many
        most = max(2, config.data.max_bytes // (4 * max(1, features)))
        places = sampled(rows.count, most, config.fit.seed)
        places = places if held is None else np.union1d(places, held)
        places = places if without is None else np.setdiff1d(places, without)
        inputs, labels = read_at(rows, places, advance)
    out = hold_out(inputs, config.data.validation, config.fit.seed) if held is None else np.isin(places, held)
    if out.all() or not out.any():
        found = "all of them" if out.all() else "none"
        raise DataError(rows.name, expected="some rows held out, and others to train on", found=f"{found} held out")
    kept, held = np.flatnonzero(~out), np.flatnonzero(out)
    parts = inputs[kept], inputs[held], [labels[i] for i in kept], [labels[i] for i in held]
    return Split(*parts, (places[kept], places[held]))


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
