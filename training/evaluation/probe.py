"""Evaluation with labels: how well frozen embeddings predict them. Labels are never part of training.

G. Alain and Y. Bengio, "Understanding intermediate layers using linear classifier probes", 2016.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor, nn

from lookalike.training.array_types import Booleans, Floats
from lookalike.training.config import OptimizerConfig
from lookalike.training.fit.loop import fit
from lookalike.training.fit.split import hold_out
from lookalike.training.fit.step_cost import few_threads, is_short
from lookalike.training.history import State
from lookalike.training.models.losses import LOSSES
from lookalike.training.models.optimizers import build_optimizer
from lookalike.training.plan import Data, FitPlan, Hooks, automatic_batch
from lookalike.training.robust import winsorized
from lookalike.training.schedules import build_schedule

__all__ = ["ProbeScores", "label_scores", "probe"]


HIDDEN = 128
NEIGHBORS = 10
VALIDATION = 0.1
OPTIMIZER = OptimizerConfig(kind="adamw", lr=5e-3, weight_decay=0.5)
"""Decay has the effect on the probes that the penalty has on a logistic regression."""


@dataclass(frozen=True)
class ProbeScores:
    """How well the queries' labels are predicted, by name of the figure: see `label_scores`."""

    linear: dict[str, float]
    mlp: dict[str, float]
    neighbours: dict[str, float]


def probe(
    items: Floats, item_labels: list[Any], queries: Floats, query_labels: list[Any], *, seed: int = 0
) -> ProbeScores | None:
    """Learn the items' labels from their embeddings, and predict the queries' labels.

    The predictors are a linear and a small MLP probe, trained by the autoencoder's training loop, and the vote of the
    ten nearest items by Euclidean distance (for embeddings of unit length, by cosine). A label is one of two or more
    kinds, or a list of names. Rows whose label is None are left out. A label that no item has is never predicted.
    Returns None if there are no labels, or all items have the same label.

    Args:
        items, queries: (n, d) and (m, d) float32 embeddings; they are standardized by the items.
    """
    items, item_names, several = _labeled(items, item_labels)
    queries, query_names, query_several = _labeled(queries, query_labels)
    known = sorted({name for names in item_names for name in names})
    item_marks = _marks(item_names, known)
    if not len(queries) or len(np.unique(item_marks, axis=0)) < 2:
        return None
    unknown = sorted({name for names in query_names for name in names} - set(known))
    query_marks = _marks(query_names, known + unknown)
    several = several or query_several
    predictions = [_vote(items, item_marks, queries, several)]
    for hidden in ((), (HIDDEN,)):
        with torch.random.fork_rng([]):
            predictions.append(_learn(items, item_marks, queries, several=several, hidden=hidden, seed=seed))
    neighbours, linear, mlp = (
        label_scores(np.pad(t, ((0, 0), (0, len(unknown)))), query_marks, several=several) for t in predictions
    )
    return ProbeScores(linear, mlp, neighbours)


def label_scores(predicted: Booleans, actual: Booleans, *, several: bool) -> dict[str, float]:
    """(m, kinds) each -> the accuracy; or with `several` labels, F1 over all (micro) and its mean over kinds (macro).

    A kind that no row has and that is not predicted has no F1.
    """
    if not several:
        return {"accuracy": float((predicted == actual).all(axis=1).mean())}
    right, all_ = (predicted & actual).sum(axis=0), predicted.sum(axis=0) + actual.sum(axis=0)  # (kinds,)
    some = all_ > 0
    return {
        "macro F1": float((2 * right[some] / all_[some]).mean()) if some.any() else 0.0,
        "micro F1": float(2 * right.sum() / max(1, all_.sum())),
    }


def _labeled(rows: Floats, labels: list[Any]) -> tuple[Floats, list[list[str]], bool]:
    """The rows that have a label, the names in each label, and whether a label is a list of names."""
    labeled = [i for i, label in enumerate(labels) if label is not None]
    kept = [labels[i] for i in labeled]
    several = any(isinstance(label, list | tuple) for label in kept)
    names = [list(map(str, label)) if isinstance(label, list | tuple) else [str(label)] for label in kept]
    return np.ascontiguousarray(rows[labeled]), names, several


def _marks(names: list[list[str]], kinds: list[str]) -> Booleans:
    places = {kind: place for place, kind in enumerate(kinds)}
    marks = np.zeros((len(names), len(kinds)), np.bool_)
    for row, row_names in enumerate(names):
        marks[row, [places[name] for name in row_names]] = True
    return marks


def _decide(scores: Floats, limit: float, several: bool) -> Booleans:
    """(m, kinds) scores -> those above `limit`, or if a row has one label, only the greatest."""
    if several:
        above: Booleans = scores > limit
        return above
    greatest: Booleans = np.eye(scores.shape[1], dtype=np.bool_)[scores.argmax(axis=1)]
    return greatest


def _vote(items: Floats, item_marks: Booleans, queries: Floats, several: bool) -> Booleans:
    _, nearest = faiss.knn(queries, items, min(NEIGHBORS, len(items)))  # (m, k)
    return _decide(item_marks[nearest].mean(axis=1, dtype=np.float32), 0.5, several)


def _learn(
    items: Floats, item_marks: Booleans, queries: Floats, *, several: bool, hidden: tuple[int, ...], seed: int
) -> Booleans:
    """Train a probe on the items, of which some are held out for early stopping, and predict the queries' labels."""
    binary = not several and item_marks.shape[1] == 2
    outs = 1 if binary else item_marks.shape[1]
    loss = LOSSES["bce_logits" if several or binary else "cross_entropy"]
    targets = (
        torch.from_numpy(item_marks[:, -outs:]).float()
        if several or binary
        else torch.from_numpy(item_marks.argmax(axis=1))
    )
    scaled_items, scaled_queries = _standardized(items, queries)
    held = torch.from_numpy(hold_out(items, VALIDATION, seed))
    data = Data(scaled_items[~held], scaled_items[held], targets[~held], targets[held])
    torch.manual_seed(seed)
    model = _stack([items.shape[1], *hidden, outs])
    plan = _plan(len(data.train), seed)
    with few_threads(short=is_short(model, data.train, plan.batch_size)):
        fit(model, loss, build_optimizer(OPTIMIZER, model), data, plan=plan, hooks=Hooks(), state=State())
    with torch.inference_mode():
        logits = model(scaled_queries).numpy()
    return _decide(np.concatenate([-logits, logits], axis=1) if binary else logits, 0.0, several)


def _standardized(items: Floats, queries: Floats) -> tuple[Tensor, Tensor]:
    near = winsorized(items)
    mean, deviation = near.mean(axis=0), near.std(axis=0)
    deviation[deviation == 0] = 1.0
    scaled_items, scaled_queries = (((rows - mean) / deviation).astype(np.float32) for rows in (items, queries))
    return torch.from_numpy(scaled_items), torch.from_numpy(scaled_queries)


def _stack(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for ins, outs in pairwise(widths):
        layers += [nn.Linear(ins, outs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _plan(count: int, seed: int) -> FitPlan:
    """About 3,000 steps."""
    size = automatic_batch(count)
    epochs = min(100, max(20, math.ceil(3_000 / math.ceil(count / size))))
    return FitPlan(epochs, size, patience=10, seed=seed, schedule=build_schedule(OPTIMIZER))
