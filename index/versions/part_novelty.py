"""The novelty of parts of rows: a part is compared with held-out rows that lack the same columns.

A row is a part if it lacks more columns than nearly all held-out rows. Missing columns move an embedding away from the
embeddings of whole rows, so compared with whole rows, every part is novel. Instead, the same columns of some held-out
rows are hidden. The errors and distances of these rows calibrate the p-values (index.versions.novelty) of the part.
"""

from functools import lru_cache

import numpy as np

from lookalike.index.ann.scores import drop_self
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.novelty import NEIGHBORS, Novelty, encode_with_errors, local_distances
from lookalike.index.versions.searching import Base, rank
from lookalike.training.array_types import Booleans, Floats, Integers, Positions
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.rows import evenly

__all__ = ["PartNovelty"]

USUAL = 0.99
"""The share of the held-out rows that lack no more columns than a row that is not a part."""
SAMPLES = ((32, 256), (128, 64))
"""(most sets of missing columns in a search, number of held-out rows that are masked for each set)."""
LEAST = 16
"""The number of held-out rows that are masked for each set, if a search has more sets."""
CACHED = 1_024


class PartNovelty:
    """Calibrates the novelty of parts of rows: once for each set of missing columns, when a search needs it."""

    def __init__(self, encoder: RowEncoder, base: Base, held: Floats, places: Positions) -> None:
        """`held`: (m, width) raw rows that the encoder was not trained on; `places`: (m,), their items in the base."""
        self._encoder, self._base = encoder, base
        self._held, self._places = held, places
        lacking = np.isnan(held).sum(axis=1)
        self._usual = int(np.quantile(lacking, USUAL, method="lower")) if len(held) else held.shape[1]
        self._calibrated = lru_cache(CACHED)(self._calibrate)

    def is_part(self, rows: Floats) -> Booleans:
        """(n,): which of (n, width) raw rows are parts."""
        parts: Booleans = np.isnan(rows).sum(axis=1) > self._usual
        return parts

    def of(self, rows: Floats) -> list[tuple[Integers, Novelty]]:
        """Return the numbers of the parts among (n, width) raw rows, and their novelty, for each set of columns."""
        parts = np.flatnonzero(self.is_part(rows))
        if not len(parts):
            return []
        sets, kinds = np.unique(np.isnan(rows[parts]), axis=0, return_inverse=True)
        sample = next((size for most, size in SAMPLES if len(sets) <= most), LEAST)
        return [
            (parts[kinds == number], self._calibrated(unknown.tobytes(), sample)) for number, unknown in enumerate(sets)
        ]

    def _calibrate(self, unknown: bytes, sample: int) -> Novelty:
        """Mask the unknown columns of `sample` held-out rows, and measure their errors and distances."""
        chosen = evenly(len(self._held), sample)
        rows = self._held[chosen]
        rows[:, np.frombuffer(unknown, np.bool_)] = np.nan
        latent, errors = encode_with_errors(self._encoder, rows)
        found = rank(self._base, in_metric(latent, self._base.metric), NEIGHBORS + 1)
        scores, positions = drop_self(*found, self._places[chosen], NEIGHBORS)
        distances = local_distances(scores, self._base.local_scale_at(positions), self._base.metric)
        known = np.isfinite(distances) if errors is None else np.isfinite(distances) & np.isfinite(errors)
        return Novelty.calibrate(None if errors is None else errors[known], distances[known])
