"""Estimates that a few rows cannot dominate, whatever is in them.

    trimmed_mean   the mean without the least and the greatest values (J. Tukey and D. McLaughlin, "Less Vulnerable
                   Confidence and Significance Procedures for Location Based on a Single Sample", Sankhya A 25, 1963)
    weights        1 for a row of ordinary length, and less the longer a row is, so that no row has more influence than
                   one at the limit (P. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical
                   Statistics 35, 1964; for principal components: J. Raymaekers and P. Rousseeuw, "A Generalized
                   Spatial Sign Covariance Matrix", Journal of Multivariate Analysis 171, 2019, their Winsor function)

Of rows without outliers the weights are 1, and an estimate with them is the usual one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TRIMMED", "shortened", "trimmed_mean", "weights"]

TRIMMED = 0.05
"""The share of the values that is left out at either end; one value at least."""
LONGEST = 3.0
"""A row counts in full up to so many times the median length."""
_TINY = 1e-300

Doubles = NDArray[np.float64]


def trimmed_mean(values: NDArray[Any], axis: int = -1) -> Any:
    """The mean along `axis` of all but the TRIMMED least and the TRIMMED greatest; of fewer than three, of all.

    Args:
        values: (..., n, ...) numbers, n along the axis, not NaN; infinite ones count as the greatest or the least.

    Returns:
        float64, of the shape without the axis.
    """
    count = values.shape[axis]
    cut = max(1, int(TRIMMED * count)) if count > 2 else 0
    kept = np.take(np.sort(values, axis=axis), range(cut, count - cut), axis=axis)
    return kept.mean(axis=axis, dtype=np.float64)


def weights(rows: NDArray[Any]) -> Doubles:
    """(n, 1): of each row of (n, dim) min(1, LONGEST * median length / length); the median is of lengths above 0."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    longer = lengths[lengths > 0]  # if most rows are equal, their length does not say what is ordinary for the others
    limit = LONGEST * float(np.median(longer)) if len(longer) else 1.0
    part: Doubles = np.minimum(1.0, limit / np.maximum(lengths, _TINY))
    return part


def shortened(rows: NDArray[Any]) -> Doubles:
    """(n, dim) float64: the rows; those far from the columns' medians are moved towards the medians, by `weights`."""
    middle = np.median(rows.astype(np.float64), axis=0) if len(rows) else np.zeros(rows.shape[1])
    moved = rows - middle
    moved *= weights(moved)
    moved += middle
    return moved
