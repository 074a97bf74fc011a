"""How far the latest queries are, as a whole, from normal data."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["WINDOW", "Window", "uniform_distance"]

WINDOW = 2_048
"""Queries that are judged together."""


def uniform_distance(values: NDArray[np.float64]) -> float:
    """The Kolmogorov-Smirnov distance of (n,) p-values, n > 0, to the uniform distribution: 0 to 1, without unit.

    It is the largest gap between the share of values up to a point and that point. Of normal data it is below
    1.63/√n in 99 of 100 cases (Massey, 1951).
    """
    ordered, count = np.sort(values), len(values)
    above = np.arange(1, count + 1) / count - ordered  # the share just after each value
    below = ordered - np.arange(count) / count  # and just before
    return float(max(above.max(), below.max()))


class Window:
    """The last WINDOW p-values; call it from one thread."""

    def __init__(self) -> None:
        self._values = np.empty(WINDOW)
        self._seen = 0

    def __len__(self) -> int:
        return min(self._seen, WINDOW)

    def add(self, values: NDArray[np.float64]) -> None:
        """(n,) more; as many of the oldest make room."""
        latest = values[-WINDOW:]
        start = self._seen % WINDOW
        if start + len(latest) <= WINDOW:
            self._values[start : start + len(latest)] = latest
        else:
            np.put(self._values, np.arange(start, start + len(latest)), latest, mode="wrap")
        self._seen += len(latest)

    def clear(self) -> None:
        self._seen = 0

    def distance(self) -> float:
        """What `uniform_distance` says of them; 0 where there is none."""
        return uniform_distance(self._values[: len(self)]) if self._seen else 0.0
