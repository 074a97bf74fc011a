"""Estimates that a few outlying rows cannot dominate.

    trimmed_mean   the mean without the least and the greatest values (J. Tukey and D. McLaughlin, "Less Vulnerable
                   Confidence and Significance Procedures for Location Based on a Single Sample", Sankhya A 25, 1963)
    weights        1 for a row of ordinary length and less for a longer row, so that no row has more influence than
                   a row at the limit (P. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical
                   Statistics 35, 1964; for principal components: J. Raymaekers and P. Rousseeuw, "A Generalized
                   Spatial Sign Covariance Matrix", Journal of Multivariate Analysis 171, 2019, their Winsor function)

If no row is an outlier, all weights are 1, and a weighted estimate equals the ordinary one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.array_types import Doubles

__all__ = ["TRIMMED", "trimmed_mean", "weights", "winsorized"]

TRIMMED = 0.05
"""The share of the values that is left out at each end; at least one value."""
LONGEST = 3.0
"""A row has full weight up to this multiple of the median length."""
_TINY = 1e-300


def trimmed_mean(values: NDArray[Any], axis: int = -1) -> Any:
    """The mean along `axis` without the TRIMMED least and the TRIMMED greatest values; of fewer than three, of all.

    (..., n, ...) numbers, not NaN -> (..., ...) float64; infinity counts as the greatest or the least value.
    """
    count = values.shape[axis]
    cut = max(1, int(TRIMMED * count)) if count > 2 else 0
    kept = np.take(np.sort(values, axis=axis), range(cut, count - cut), axis=axis)
    return kept.mean(axis=axis, dtype=np.float64)


def weights(rows: NDArray[Any]) -> Doubles:
    """(n, 1): for each row of (n, dim) min(1, LONGEST * median length / length); the median is of lengths above 0."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    positive = lengths[lengths > 0]  # if most rows are equal, the median of all lengths would be 0
    limit = LONGEST * float(np.median(positive)) if len(positive) else 1.0
    part: Doubles = np.minimum(1.0, limit / np.maximum(lengths, _TINY))
    return part


def winsorized(rows: NDArray[Any]) -> Doubles:
    """(n, dim) float64: the rows, with outlying rows moved towards the columns' medians by `weights`."""
    middle = np.median(rows.astype(np.float64), axis=0) if len(rows) else np.zeros(rows.shape[1])
    moved = rows - middle
    moved *= weights(moved)
    moved += middle
    return moved
