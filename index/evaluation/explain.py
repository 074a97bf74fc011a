"""Which parts of two items make them alike, and which separate them, measured by occlusion.

Occlusion replaces a part of the input and measures the change of the output (M. Zeiler and R. Fergus, "Visualizing and
Understanding Convolutional Networks", 2014; for the similarity of two embeddings: B. Dong, R. Collins and A. Hoogs,
"Explainability for Content-Based Image Retrieval", 2019). The output here is d, the squared Euclidean distance of the
two embeddings; for embeddings of unit length it is 2 - 2 cosine.

- apart: the share of d that vanishes if the part of one item is replaced by the other item's, the mean of both
  directions. It is 0 for equal parts, and at most 1.
- alike: how much d grows if the items no longer share the part: both get it from other rows, each from a different one,
  so that the part still has usual values. As the replacement does in I. Covert, S. Lundberg and S.-I. Lee, "Explaining
  by Removing", 2021, it uses rows of the data. Both items are changed at once, because a part that both lack cannot
  separate them (M. Hamilton et al., "Axiomatic Explanations for Visual Search, Retrieval, and Similarity Learning",
  2022). The unit is the mean distance of two unrelated rows. It is near 0 if all rows have the same part, as the black
  corners of photos, or if the encoder does not use it, and negative if the parts differ more than usual.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric
from lookalike.index.evaluation.parts import Part, parts_of
from lookalike.index.versions.stored_inputs import StoredInputs
from lookalike.training.array_types import Doubles, Floats
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.rows import evenly

__all__ = ["Explanation", "Occlusion", "Weight", "compare"]

ROWS = 4_096
"""About as many rows are embedded for an explanation."""
LEAST, MOST = 4, 16
"""The least and the most other rows that parts are replaced from."""
SAMPLE = 256
"""Rows that the standard deviation of a value is measured with."""
BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class Weight:
    """How much a part explains; the module defines `alike` and `apart`.

    Attributes:
        difference: the plain difference: the root mean square of the differences of numbers, in standard deviations;
            1 for different categories, or if one value is missing.
    """

    part: Part
    alike: float
    apart: float
    difference: float


@dataclass(frozen=True)
class Explanation:
    """The weights of all parts.

    Attributes:
        score: of the two embeddings, in the unit of the metric.
        distance: of the two embeddings, squared; `usual`: the mean of two unrelated rows'.
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
        others: (r, width), other rows, at least two; the same row twice if there is only one.
        deviations: (width,), the standard deviation of each value.
    """

    pair: Floats
    parts: list[Part]
    others: Floats
    deviations: Doubles

    def blocks(self) -> Iterator[Floats]:
        """Yield all rows to embed, (n, width) at a time: first the pair and the other rows, then those of each part."""
        waiting = [np.concatenate([self.pair, self.others])]
        for part in self.parts:
            waiting.append(self._replaced(part))
            if sum(rows.size for rows in waiting) >= BLOCK_VALUES:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)

    def explain(self, embeddings: Floats, metric: Metric) -> Explanation:
        """(n, dim), the embeddings of the rows of all `blocks` -> the weights."""
        vectors, count = embeddings.astype(np.float64), len(self.others)
        pair, others = vectors[:2], vectors[2 : 2 + count]
        distance, usual = float(((pair[0] - pair[1]) ** 2).sum()), _unrelated(others, others)
        weights, size = [], 2 + 2 * count
        for number, part in enumerate(self.parts):
            a, b, *replaced = vectors[2 + count + number * size :][:size]
            shared = float((((a - pair[1]) ** 2).sum() + ((b - pair[0]) ** 2).sum()) / 2)
            lost = _unrelated(np.array(replaced[:count]), np.array(replaced[count:])) - distance
            apart, alike = _share(distance - shared, distance), _share(lost, usual)
            weights.append(Weight(part, alike, apart, self._difference(part)))
        score = np.sqrt(distance) if metric == "l2" else float(pair[0] @ pair[1])
        return Explanation(float(score), distance, usual, weights)

    def _replaced(self, part: Part) -> Floats:
        """(2 + 2r, width): each item with the part of the other item, then each with the part of every other row."""
        count, at = len(self.others), part.at
        rows = np.concatenate([self.pair, np.repeat(self.pair, count, axis=0)])
        rows[:2, at] = self.pair[::-1, at]
        rows[2:, at] = np.concatenate([self.others, self.others])[:, at]
        return rows

    def _difference(self, part: Part) -> float:
        a, b = self.pair[:, part.at].astype(np.float64)
        missing = np.isnan(a) | np.isnan(b)
        unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
        squares, variances = (a - b) ** 2, self.deviations[part.at] ** 2
        if part.columns:
            words = missing | (variances == 0) | [column.kind != "numeric" for column in part.columns]
            return float(np.sqrt(np.where(words, unequal, squares / np.where(words, 1, variances)).mean()))
        if not variances.any():
            return float(unequal.any())
        return float(np.sqrt(squares.mean() / variances.mean()))


def compare(encoder: Encoder, inputs: StoredInputs, pair: Floats) -> Occlusion:
    """Return the occlusion of two rows, (2, width) raw float32 minus the origin; `inputs` are rows of the same data."""
    parts = parts_of(encoder)
    count = min(MOST, max(LEAST, ROWS // (2 * len(parts))))
    sample = inputs.at(evenly(len(inputs), min(SAMPLE, max(count, BLOCK_VALUES // encoder.width))))
    others = sample[evenly(len(sample), count)]
    others = others if len(others) > 1 else np.repeat(others, 2, axis=0)
    return Occlusion(pair, parts, others, _deviations(sample))


def _deviations(sample: Floats) -> Doubles:
    """(n, width) -> (width,), the standard deviation of the values that are not missing; 0 if there are none."""
    present = ~np.isnan(sample)
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, sample, 0).astype(np.float64)
    mean = values.sum(axis=0) / count
    deviations: Doubles = np.sqrt((np.where(present, values - mean, 0) ** 2).sum(axis=0) / count)
    return deviations


def _unrelated(a: Doubles, b: Doubles) -> float:
    """(r, dim) and (r, dim) -> the mean squared distance of a row of `a` and a row of `b` with another number."""
    squares: NDArray[np.float64] = ((a[:, None] - b[None]) ** 2).sum(axis=2)  # (r, r)
    return float((squares.sum() - np.trace(squares)) / (len(a) * (len(a) - 1)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
