"""Normalizes each window of a recording by its own mean and deviation: a part of the encoder, so it happens once.

Rows stay as they were recorded everywhere else: in files, requests, the change log and a retraining.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lookalike.training.array_types import Floats
from lookalike.training.transforms import WindowTransform

__all__ = ["Normalizer", "normalizer_of"]

_BLOCK = 4_096


@dataclass(frozen=True)
class Normalizer:
    """Subtracts the mean of a window, and divides by its standard deviation unless that is 0.

    Computed in float64. Sums are made by adding halves element by element, so a window has the same result, bit for
    bit, in every batch.

    Attributes:
        window, channels: the shape of a window.
        kind: "center" only subtracts the mean.
        over: each channel by itself, or all channels together.
    """

    window: int
    channels: int
    kind: Literal["center", "standard"]
    over: Literal["channel", "all"]

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, window * channels) float32 -> the same shape, normalized."""
        groups = self.channels if self.over == "channel" else 1
        values = rows.reshape(len(rows), -1, groups).double()  # (n, values, groups)
        count = values.shape[1]
        values = values - _sum(values) / count
        if self.kind == "standard":
            deviation = torch.sqrt(_sum(values * values) / count)  # (n, 1, groups)
            values = values / torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        return values.float().reshape(len(rows), -1)

    def each_block(self, rows: Floats) -> Floats:
        """(n, width) -> (n, width), block by block, to save memory."""
        result = np.empty_like(rows)
        for start in range(0, len(rows), _BLOCK):
            result[start : start + _BLOCK] = self(torch.from_numpy(rows[start : start + _BLOCK])).numpy()
        return result


def normalizer_of(transform: object) -> Normalizer | None:
    """Return the normalizer that a transform requires; None if it requires none."""
    if not isinstance(transform, WindowTransform) or transform.normalize == "none":
        return None
    return Normalizer(transform.window, len(transform.channels), transform.normalize, transform.normalize_over)


def _sum(values: Tensor) -> Tensor:
    """(n, values, groups) -> (n, 1, groups)."""
    while (count := values.shape[1]) > 1:
        half = count // 2
        pairs = values[:, :half] + values[:, half : 2 * half]
        values = torch.cat([pairs, values[:, 2 * half :]], dim=1) if count % 2 else pairs
    return values
