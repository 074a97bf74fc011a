"""Do the figures without labels agree with label precision? Over encoders of very different quality, on two data sets.

Each of `RECIPES` is trained on digits and on 8,000 pictures of Fashion-MNIST, and judged on held-out rows: label
precision@10 against the rows that it was trained on, and the label-free figures of `index.evaluation.quality`. Reported
is Spearman's rank correlation of each with label precision, over all encoders, over the better half by label precision,
and over those of 32 dimensions, among which no embedding is longer than another; 95 % intervals are of 2,000 bootstrap
samples of the encoders.

ours    the figure's rank correlation
peer    that of the reconstruction error, the label-free figure that any autoencoder has (its negative)
floor   that of the number of dimensions

The corruption of `recovery`, the swap of values between rows, was chosen on digits among Gaussian noise, masking, salt
and pepper, blocks, mixing with a second row, and swaps, by its rank correlation there. On Fashion-MNIST masking would
have done better: 0.92, against 0.76 for swaps, in a trial run. The limits of `EncoderQuality.retrain` were set
with both data sets in view, so these figures do not test them.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from benchmarks.report import Row, report, row
from lookalike.index.evaluation.quality import (
    LEAST_NEIGHBOURS,
    SEVERITIES,
    EncoderQuality,
    features_of,
    mean_share,
    neighbors_kept,
    recovery,
    recovery_share,
    rows_to_embedding,
)
from lookalike.index.versions.embed import embed
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import load_config
from lookalike.training.evaluation.judge import NoiseTest, add_noise, label_precision, score_pca
from lookalike.training.fit.job import train
from lookalike.training.rows import Rows, open_rows, read_sample
from lookalike.training.rows.arrays import array_rows

__all__ = ["main"]

PARTS = {"digits": (1_437, (8, 8), 30), "fashion-mnist": (8_000, (28, 28), 8)}
"""The number of training rows, the shape of a row, and the epochs."""
QUERIES = 1_000
BASE = ("model.latent_dim=32", "model.hidden=[256,128]", "fit.batch_size=128", "fit.device=cpu")
RECIPES: dict[str, tuple[str, ...]] = {
    **{f"{dim} dimensions": (f"model.latent_dim={dim}",) for dim in (2, 3, 4, 8, 16, 32)},
    **{f"{count} epochs": (f"fit.epochs={count}",) for count in (1, 2, 4)},
    **{f"8 dimensions, {count} epochs": ("model.latent_dim=8", f"fit.epochs={count}") for count in (1, 4)},
    **{kind: (f"corruption.kind={kind}",) for kind in ("none", "masking", "salt_and_pepper", "swap", "blocks")},
    "gaussian of 5": ("corruption.level=5.0",),
    **{f"rate {rate}": (f"optimizer.lr={rate}",) for rate in ("1e-5", "1e-4", "3e-2")},
    **{kind: (f"model.activation={kind}",) for kind in ("linear", "sigmoid", "tanh")},
    "no hidden layer": ("model.hidden=[]",),
    "hidden layer of 16": ("model.hidden=[16]",),
    "four hidden layers": ("model.hidden=[256,128,64,32]",),
    "latent noise of 2": ("model.latent_noise=2.0",),
    "dropout": ("model.dropout=0.5",),
    "plain": ("model.batch_norm=false", "model.latent_norm=false", "model.latent_noise=0.0", "corruption.kind=none"),
    "mean square, 4 dimensions": ("loss.kind=mse", "model.latent_dim=4", "corruption.kind=none"),
    "one step": ("fit.epochs=1", "fit.batch_size=100000"),
}
RECONSTRUCTION, DIMENSIONS = "reconstruction", "dimensions"


@dataclass(frozen=True)
class Data:
    """Raw rows, (n, width): items, which are trained on, and queries; each with its labels."""

    rows: Rows
    items: NDArray[np.float32]
    queries: NDArray[np.float32]
    item_labels: list[Any]
    query_labels: list[Any]


@dataclass(frozen=True)
class Found:
    """For one encoder: label precision, its lead over PCA of the same dimension, and the label-free figures."""

    precision: float
    ahead: float
    encoding: EncoderQuality
    figures: dict[str, float]


def opened(name: str) -> Data:
    count, shape, _ = PARTS[name]
    items, item_labels = read_sample(open_rows(name), count, seed=0)
    queries, query_labels = read_sample(open_rows(f"{name}:test"), QUERIES, seed=0)
    return Data(array_rows(items, name, shape=shape), items, queries, item_labels, query_labels)


def encoders(name: str, data: Data) -> Iterator[tuple[str, Encoder]]:
    """One trained encoder per recipe."""
    for recipe, settings in RECIPES.items():
        config = load_config(None, [*BASE, f"fit.epochs={PARTS[name][2]}", *settings])
        with tempfile.TemporaryDirectory() as folder:
            yield recipe, train(data.rows, config, Path(folder) / "run").encoder


def evaluate(encoder: Encoder, data: Data, pca: float) -> Found:
    """All figures of one encoder; `pca` is the label precision of principal components."""
    items, queries = embed(encoder, data.items, "cosine"), embed(encoder, data.queries, "cosine")
    precision = label_precision(items, data.item_labels, queries, data.query_labels)
    if precision is None:
        raise RuntimeError("the data have no labels")
    features = features_of(encoder, data.queries)
    back = features_of(encoder, encoder.reconstruct(data.queries))
    noise = [
        recovery_share(encoder, data.queries, add_noise(data.queries, encoder.preprocess, level), "cosine")
        for level in SEVERITIES
    ]
    return Found(
        precision,
        precision - pca,
        rows_to_embedding(encoder, data.queries, "cosine"),
        {
            "neighbours kept": neighbors_kept(features, queries),
            "recovery among the items": mean_share(recovery(encoder, data.queries, "cosine", gallery=items)),
            "recovery among themselves": mean_share(recovery(encoder, data.queries, "cosine")),
            "recovery from Gaussian noise instead": float(np.mean(noise)),
            RECONSTRUCTION: -float(np.square(back - features).mean()),
            DIMENSIONS: encoder.latent_dim,
        },
    )


def study(name: str) -> list[Found]:
    """Study every recipe on one data set, and print each when it ends."""
    data, precisions = opened(name), dict[int, float]()
    noise_test = NoiseTest(data.items, data.queries, data.queries, data.item_labels, data.query_labels)
    found = []
    for recipe, encoder in encoders(name, data):
        dim = encoder.latent_dim
        if dim not in precisions:
            precisions[dim] = score_pca(dim, encoder.preprocess, noise_test, data.items).precision or 0.0
        found.append(evaluate(encoder, data, precisions[dim]))
        figures = ", ".join(f"{figure} {value:.3f}" for figure, value in found[-1].figures.items())
        print(f"{name}, {recipe}: precision {found[-1].precision:.3f}, {figures}", flush=True)
    return found


def interval(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """The interval of the rank correlation of (n,) with (n,): the middle 95 % over samples drawn with replacement."""
    drawn = np.random.default_rng(0).integers(len(one), size=(2_000, len(one)))
    left, right = (rankdata(values[drawn], axis=1) for values in (one, other))  # (2000, n)
    left, right = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (left, right))
    lengths = np.sqrt(np.square(left).sum(axis=1) * np.square(right).sum(axis=1))
    some = lengths > 0
    low, high = np.quantile((left * right).sum(axis=1)[some] / lengths[some], [0.025, 0.975])
    return float(low), float(high)


def correlations(name: str, found: list[Found]) -> Iterator[Row]:
    """Each figure over all encoders, over the better half, and over those of one dimension."""
    precision = np.array([one.precision for one in found])
    values = {figure: np.array([one.figures[figure] for one in found]) for figure in found[0].figures}
    subsets = {
        "all": np.full(len(found), True),
        "better half": precision >= np.median(precision),
        "32 dimensions": values[DIMENSIONS] == 32,
    }
    for subset, some in subsets.items():
        rho = {figure: correlation(value[some], precision[some]) for figure, value in values.items()}
        for figure in values:
            if figure not in {RECONSTRUCTION, DIMENSIONS}:
                low, high = interval(values[figure][some], precision[some])
                yield row(
                    f"{name}, {subset} ({some.sum()}): {figure} (95 %: {low:.2f} to {high:.2f})",
                    "rank correlation",
                    ours=rho[figure],
                    peer=rho[RECONSTRUCTION],
                    floor=rho[DIMENSIONS],
                )


def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Spearman's rank correlation; None if all values of one array are equal."""
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else None


def advice_rows(name: str, found: list[Found]) -> Iterator[Row]:
    """The lead over PCA in label precision, of the encoders that are advised to be retrained, and of the others."""
    for retrain, advice in ((True, "told to retrain"), (False, "not told to")):
        ahead = [one.ahead for one in found if one.encoding.retrain is retrain]
        if ahead:
            claim = f"{name}, {advice} ({len(ahead)}): precision less PCA's ({min(ahead):+.3f} to {max(ahead):+.3f})"
            yield row(claim, "share", ours=float(np.mean(ahead)))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows: list[Row] = []
    best = []
    for name in PARTS:
        found = study(name)
        mine = list(correlations(name, found))
        best.append(max(mine[:4], key=lambda one: one.ours or -1).claim)
        rows += [*mine, *advice_rows(name, found)]
    limit = f"Told to retrain: keeps less than {LEAST_NEIGHBOURS:.0%} of the neighbours that PCA keeps beyond chance."
    report("label_free", rows, "Follows label precision most closely: " + "; ".join(best) + f"\n{limit}")


if __name__ == "__main__":
    main()
