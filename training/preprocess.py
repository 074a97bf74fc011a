"""Bring columns to one scale: fitted on training rows only, carried inside the encoder artifact."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Preprocessor", "ScaleKind", "fit_preprocessor"]

ScaleKind = Literal["center", "range", "column-range", "standard", "none"]
_BLOCK = 16_384


@dataclass(frozen=True)
class Preprocessor:
    """The affine map `(rows - offset) * factor`, and the bounds of what it was fitted on.

    The tensors are float32 of shape (width,). A constant column has factor 1.
    """

    kind: ScaleKind
    offset: Tensor
    factor: Tensor
    low: Tensor
    high: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """(n, width) raw float32 -> (n, width) preprocessed."""
        return (rows - self.offset) * self.factor

    def invert(self, rows: Tensor) -> Tensor:
        """(n, width) preprocessed -> (n, width) in the raw unit."""
        return rows / self.factor + self.offset

    @property
    def noise_unit(self) -> Tensor:
        """(width,): the range of a column, or where columns were standardised, one standard deviation."""
        return torch.ones_like(self.low) if self.kind == "standard" else self.high - self.low

    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name, for writing."""
        return {"offset": self.offset, "factor": self.factor, "low": self.low, "high": self.high}

    def to(self, device: torch.device) -> "Preprocessor":
        return Preprocessor(self.kind, **{name: tensor.to(device) for name, tensor in self.tensors().items()})


def fit_preprocessor(rows: NDArray[np.float32], kind: ScaleKind) -> Preprocessor:
    """Fit on training rows.

    Args:
        rows: (n, width) float32, finite, n >= 1.
        kind: "center" gives each column mean 0 and all of them together standard deviation 1 (for
            pixels, whose unit is one); "range" maps all columns together to [0, 1]; "column-range"
            each by itself; "standard" gives each mean 0 and standard deviation 1; "none" leaves them.
    """
    width = rows.shape[1]
    low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    offset, spread = np.zeros(width), np.ones(width)
    if kind in {"center", "range"}:
        low, high = np.full(width, low.min()), np.full(width, high.max())
    if kind in {"range", "column-range"}:
        offset, spread = low, high - low
    if kind in {"center", "standard"}:
        offset, spread = _mean_and_deviation(rows)
    if kind == "center":
        spread = np.full(width, np.sqrt(np.mean(spread**2)))
    constant = (low == high) | (spread < np.finfo(np.float32).tiny)
    shift, factor = _tensor(offset), _tensor(1.0 / np.where(constant, 1.0, spread))
    bounds = {name: (_tensor(edge) - shift) * factor for name, edge in (("low", low), ("high", high))}
    return Preprocessor(kind, offset=shift, factor=factor, **bounds)  # rounded as the rows are: none lies outside


def _mean_and_deviation(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per column, in float64 and in blocks, so that no second copy of the rows is made."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for start in range(0, len(rows), _BLOCK):
        scaler.partial_fit(rows[start : start + _BLOCK].astype(np.float64))
    return scaler.mean_, np.sqrt(scaler.var_)


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
