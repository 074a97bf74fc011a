"""A plain dictionary with exact search, with which a collection is compared.

Encoders are matrices of small whole numbers, and rows are small whole numbers, so an embedding is exact in float32
however it is computed, and many items are equally near.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric
from lookalike.index.changes.change import Change

__all__ = ["DIM", "WIDTH", "Plain", "matrix_of", "passes", "random_row"]

WIDTH, DIM = 5, 3
READABLE = 1e16
"""Beyond this, an embedding cannot be compared in float32, and its item is not found."""

Rows = NDArray[np.float32]


def matrix_of(rng: np.random.Generator) -> Rows:
    """(WIDTH, DIM) whole numbers, without 0 in the first row: a huge first value then makes a huge embedding."""
    matrix = rng.integers(-2, 3, (WIDTH, DIM)).astype(np.float32)
    matrix[0] = rng.choice([-2, -1, 1, 2], DIM)
    return matrix


def random_row(rng: np.random.Generator) -> Rows:
    """(WIDTH,) small whole numbers; one row in a hundred is beyond what can be compared."""
    row = rng.integers(-3, 4, WIDTH).astype(np.float32)
    if rng.random() < 0.01:
        row[:] = 0
        row[0] = rng.choice([1e20, 3e38])
    return row


class Plain:
    """Items by id; all ids that may ever exist are known from the beginning."""

    def __init__(self, names: Iterable[str], matrix: Rows, metric: Metric) -> None:
        self.names = sorted(names)  # so that a stable sort by score orders ties by id
        self.places = {name: place for place, name in enumerate(self.names)}
        self.rows = np.zeros((len(self.names), WIDTH), np.float32)
        self.payloads = [""] * len(self.names)
        self.exists = np.zeros(len(self.names), np.bool_)
        self.applied = 0
        self.encode_by(matrix, metric)

    def copy(self, matrix: Rows, metric: Metric) -> "Plain":
        """The same items, under a different encoder."""
        other = Plain(self.names, matrix, metric)
        other.rows, other.exists, other.payloads = self.rows.copy(), self.exists.copy(), list(self.payloads)
        other.applied = self.applied
        other.encode_by(matrix, metric)
        return other

    def encode_by(self, matrix: Rows, metric: Metric) -> None:
        """Use a different encoder from now on."""
        self.matrix, self.metric = matrix, metric
        self.embeddings = self.embed(self.rows)

    def embed(self, rows: Rows) -> Rows:
        """Map (n, WIDTH) to (n, DIM)."""
        with np.errstate(over="ignore", invalid="ignore"):
            latent: Rows = rows @ self.matrix
            if self.metric == "cosine":
                lengths = np.sqrt(np.square(latent.astype(np.float64)).sum(axis=1, keepdims=True))
                latent = (latent / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
        return latent

    def apply(self, change: Change) -> None:
        place = self.places[change.id]
        self.exists[place] = change.input is not None
        if change.input is not None:
            self.rows[place], self.payloads[place] = change.input, change.payload or "{}"
            self.embeddings[place] = self.embed(change.input[None].astype(np.float32))[0]
        self.applied = max(self.applied, change.sequence)

    def found(self) -> NDArray[np.bool_]:
        """(names,): which items exist and can be found."""
        mask: NDArray[np.bool_] = self.exists & (np.abs(self.embeddings) <= READABLE).all(axis=1)
        return mask

    def present(self) -> list[str]:
        """The ids of items that can be found."""
        return [self.names[place] for place in np.flatnonzero(self.found())]

    def scores(self, query: Rows) -> Rows:
        """(names,) in the metric's unit, of a query (DIM,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            vectors = self.embeddings.astype(np.float64)
            wide = query.astype(np.float64)
            near = (
                np.sqrt(np.square(vectors - wide).sum(axis=1)) if self.metric == "l2" else (vectors * wide).sum(axis=1)
            )
            scores: Rows = near.astype(np.float32)
            return scores

    def nearest(self, scores: Rows, limit: int, filter_: object = None, own: str | None = None) -> list[str]:
        """The ids of the nearest, by `scores` (names,), that match a filter; best first, ties ordered by id."""
        mask = self.found()
        if own is not None:
            mask[self.places[own]] = False
        if filter_ is not None:
            mask &= np.array(
                [present and passes(text, filter_) for present, text in zip(mask, self.payloads, strict=True)]
            )
        places = np.flatnonzero(mask)
        keys = scores[places] if self.metric == "l2" else -scores[places]
        return [self.names[place] for place in places[np.argsort(keys, kind="stable")[:limit]]]


def passes(payload: str, filter_: Any) -> bool:
    """Whether a payload's JSON text matches a filter of the kinds that histories use."""
    if "not" in filter_:
        return not passes(payload, filter_["not"])
    if "and" in filter_ or "or" in filter_:
        word = "and" if "and" in filter_ else "or"
        return (all if word == "and" else any)(passes(payload, part) for part in filter_[word])
    value = json.loads(payload).get(filter_["field"])
    if "exists" in filter_:
        return bool((value is not None) == filter_["exists"])
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    if "range" in filter_:
        low = filter_["range"]["gte"]
        return any(isinstance(one, int | float) and one >= low for one in values)
    wanted = filter_["in"] if "in" in filter_ else [filter_["equal"]]
    return any(one is not None and one in wanted for one in values)
