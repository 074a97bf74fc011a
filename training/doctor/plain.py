"""Measured values as plain JSON."""

import math
from typing import Any

from torch import Tensor

__all__ = ["median", "number", "numbers"]


def number(value: Any) -> float | None:
    """Return a value rounded to four significant digits; None for NaN and infinity, which JSON cannot represent."""
    plain = float(value)
    return float(f"{plain:.4g}") if math.isfinite(plain) else None


def numbers(values: Tensor) -> list[float | None]:
    """Return each value as `number` does."""
    return [number(value) for value in values]


def median(values: Tensor) -> float | None:
    """Return the median of (n,) values, or None without any."""
    return number(values.median()) if len(values) else None
