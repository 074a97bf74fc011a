"""Which parts of two items make them alike, and which separate them, measured by occlusion.

Occlusion replaces a part of the input and measures how the output moves (M. Zeiler and R. Fergus, "Visualizing and
Understanding Convolutional Networks", 2014; for a pair of embeddings: B. Dong, R. Collins and A. Hoogs, "Explainability
for Content-Based Image Retrieval", 2019). Distances are squared Euclidean distances of embeddings; for embeddings of
unit length, such a distance is 2 - 2 cosine.

- apart: replace the part of one item by the part of the other item. The embedding then moves some of the way to the
  other item's embedding; `apart` is this share of the way, as the mean of both directions. `apart` is 0 for equal
  parts, and 1 for the only part that differs; for a linear encoder, the sum over all parts is 1. `apart` is negative if
  the difference of the part hides differences of other parts.
- alike: replace the part by the parts of unrelated rows, one after the other, and measure how far the embedding moves.
  Subtract how far it moves if the part is replaced by the part of the other item. The unit is the mean distance of two
  unrelated rows. `alike` is high if both items share the part. `alike` is 0 if all rows share the part, as the black
  corners of photos, or if the encoder does not use the part. `alike` is negative if the two parts differ more than the
  parts of unrelated rows.

The replacements are values of rows of the data (I. Covert, S. Lundberg and S.-I. Lee, "Explaining by Removing", 2021).
Only replacements in the same item are compared, so that the differences of the other parts cancel; otherwise, these
differences would hide the difference of the part (as in M. Hamilton et al., "Axiomatic Explanations for Visual Search,
Retrieval, and Similarity Learning", 2022).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import comparable
from lookalike.index.errors import QueryError
from lookalike.index.evaluation.input_parts import InputPart, parts_of
from lookalike.index.versions.stored_inputs import StoredInputs
from lookalike.training.array_types import Doubles, Floats, Integers
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.rows import evenly
from lookalike.training.tables.columns import to_json_rows

__all__ = ["Explanation", "Occlusion", "Weight", "compare", "value_of"]

ROWS = 2_048
"""About how many rows are embedded for an explanation."""
LEAST, MOST = 4, 32
"""The least and the most rows whose parts replace the part of an item."""
SAMPLE = 512
"""Rows of the data that an explanation uses."""
BLOCK_VALUES = 1 << 22
ITERATIONS = 5


@dataclass(frozen=True)
class Weight:
    """How much a part explains; the module defines `alike` and `apart`.

    Attributes:
        difference: the plain difference: the root mean square of the differences of numbers, in standard deviations;
            1 for different categories, or if one value is missing.
    """

    part: InputPart
    alike: float
    apart: float
    difference: float


@dataclass(frozen=True)
class Explanation:
    """The weights of all parts, in their order.

    Attributes:
        score: the score of the two embeddings, in the unit of the metric.
        distance: the squared distance of the two embeddings.
        usual: the mean squared distance of the embeddings of two unrelated rows.
    """

    score: float
    distance: float
    usual: float
    weights: list[Weight]


@dataclass(frozen=True)
class Occlusion:
    """The rows to embed for an explanation of two items, and the calculation with their embeddings.

    Attributes:
        pair: (2, width) raw float32, minus the encoder's origin.
        sample: (n, width), rows of the data.
        count: how many of these rows replace the part of an item.
    """

    pair: Floats
    parts: list[InputPart]
    sample: Floats
    count: int

    def blocks(self) -> Iterator[Floats]:
        """Yield all rows to embed, in blocks (n, width): the pair, unrelated rows, then the rows for each part."""
        waiting = [np.concatenate([self.pair, self.sample[self._evenly()]])]
        for part in self.parts:
            waiting.append(self._replaced(part))
            if sum(rows.size for rows in waiting) >= BLOCK_VALUES:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)

    def explain(self, embeddings: Floats, metric: Metric) -> Explanation:
        """(n, dim), the embeddings of the rows of all `blocks` -> the weights.

        Raises QueryError if an embedding is not finite and within MAX_VALUE.
        """
        if not comparable(embeddings).all():
            raise QueryError("input", expected="values that the encoder can compute with", found="too large values")
        vectors, count = embeddings.astype(np.float64), 2 * self.count
        pair, others, replaced = vectors[:2], vectors[2 : 2 + count], vectors[2 + count :]
        way, usual = pair[1] - pair[0], _spread(others)
        distance, deviations = float(way @ way), _deviations(self.sample)
        weights = []
        for part, moved in zip(self.parts, replaced.reshape(len(self.parts), 2, -1, vectors.shape[1]), strict=True):
            steps = moved[:, 0] - pair  # (2, dim), to the part of the other item
            apart = float((steps[0] - steps[1]) @ way) / 2
            alike = sum(map(_spread, moved[:, 1:])) / 2 - float((steps**2).sum()) / 2
            weights.append(
                Weight(part, _share(alike, usual), _share(apart, distance), self._difference(part, deviations))
            )
        score = np.sqrt(distance) if metric == "l2" else float(pair[0] @ pair[1])
        return Explanation(float(score), distance, usual, weights)

    def _replaced(self, part: InputPart) -> Floats:
        """(2 + 2r, width): for each item, its row with the other item's part, then with the parts of r other rows.

        The other rows are chosen for each part: they are evenly spaced in the order of its values, or of the main
        component of several values, so that a few rows vary as all rows do.
        """
        size, at = 1 + self.count, part.at
        values = self.sample[:, at]
        values = values[np.argsort(_main_component(values), kind="stable")[self._evenly()]]
        rows = np.repeat(self.pair, size, axis=0)
        for number, start in enumerate((0, size)):
            rows[start, at] = self.pair[1 - number, at]
            rows[start + 1 : start + size, at] = values[number::2]
        return rows

    def _evenly(self) -> Integers:
        """Return (2r,) evenly spaced positions in the sample; rows of a small sample are used several times."""
        return (2 * np.arange(2 * self.count) + 1) * len(self.sample) // (4 * self.count)

    def _difference(self, part: InputPart, deviations: Doubles) -> float:
        a, b = self.pair[:, part.at].astype(np.float64)
        missing = np.isnan(a) | np.isnan(b)
        unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
        squares, variances = (a - b) ** 2, deviations[part.at] ** 2
        if part.columns:
            words = missing | (variances == 0) | [column.kind != "numeric" for column in part.columns]
            return float(np.sqrt(np.where(words, unequal, squares / np.where(words, 1, variances)).mean()))
        if not variances.any():
            return float(unequal.any())
        return float(np.sqrt(squares.mean() / variances.mean()))


def compare(encoder: RowEncoder, inputs: StoredInputs, pair: Floats) -> Occlusion:
    """Return the occlusion of two rows, (2, width) raw float32 minus the origin; `inputs` are rows of the same data."""
    parts = parts_of(encoder)
    count = min(MOST, max(LEAST, ROWS // (2 * len(parts))))
    sample = inputs.at(evenly(len(inputs), min(SAMPLE, max(2 * count, BLOCK_VALUES // encoder.width))))
    return Occlusion(pair, parts, sample, count)


def value_of(part: InputPart, row: NDArray[np.floating]) -> Any:
    """Return the value of a part of a row, (width,), with the origin, as JSON: None for a missing value.

    A field of several columns has a dict; a tile, a segment or values have the mean.
    """
    values = row[part.at]
    if not part.columns:
        return _number(values.mean())
    cells = to_json_rows(values[None], part.columns)[0]
    shown = [_number(value) if type(cell) is float else cell for value, cell in zip(values, cells, strict=True)]
    return shown[0] if len(shown) == 1 else {c.name: cell for c, cell in zip(part.columns, shown, strict=True)}


def _number(value: np.floating) -> float | None:
    """Return the number with the fewest digits that is equal to `value` in the type of `value`; None for NaN."""
    return float(str(value)) if np.isfinite(value) else None


def _deviations(sample: Floats) -> Doubles:
    """(n, width) -> (width,), the standard deviation of the values that are not missing; 0 if all are missing."""
    present = ~np.isnan(sample)
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, sample, 0).astype(np.float64)
    mean = values.sum(axis=0) / count
    deviations: Doubles = np.sqrt((np.where(present, values - mean, 0) ** 2).sum(axis=0) / count)
    return deviations


def _main_component(values: Floats) -> Doubles:
    """(n, m) -> (n,): the coordinate along the direction in which the values vary most, by power iteration."""
    if values.shape[1] == 1:
        return values[:, 0].astype(np.float64)
    filled = np.nan_to_num(values).astype(np.float64)  # a missing value is 0
    centered = filled - filled.mean(axis=0)
    direction = centered[(centered**2).sum(axis=1).argmax()]
    for _ in range(ITERATIONS):
        direction = centered.T @ (centered @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-300)
    component: Doubles = centered @ direction
    return component


def _spread(vectors: Doubles) -> float:
    """(r, dim) -> the mean squared distance of two of the vectors."""
    return 2 * float(vectors.var(axis=0, ddof=1).sum())


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
