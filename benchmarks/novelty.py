"""Does the p-value find new kinds of rows, and is its false alarm rate what it claims?

Ten times, one class of Fashion-MNIST is left out of training; the encoder has the shipped settings except for 10 epochs
(so that the benchmark takes about 15 minutes on two cores), its validation rows calibrate, its training rows are the
items. Each method must separate the class's test rows from the 9,000 others, and also 1,000 of those others with a
corruption.

ours    AUROC of the p-value, from reconstruction error and distance to the neighbors
peer    the mean distance to the 10 nearest embeddings alone; the same divided by the local scale as ours does; the
        reconstruction error alone; scikit-learn's Isolation Forest, with its defaults, on all raw training rows; its
        Local Outlier Factor, 20 neighbors, on 20,000 raw training rows

How error and distance are measured and joined was chosen on all ten classes under seed 0, the same for all of them;
the report is of seed 1, with other weights and other calibration rows, and the same test rows.

False alarms: of 1,000 held-out normal test rows in each of the ten runs, drawn separately, the share with a p-value of
at most 1, 5 and 10 %, against the 95 % binomial interval of 10,000. A run has 5,400 calibration rows, a finite number:
they add about 9 % to the rate's deviation, which the interval leaves out.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import binom
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from benchmarks.report import Bar, Row, report, row
from lookalike.index.ann.embeddings import Embeddings
from lookalike.index.ann.spec import IndexSpec
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.versions.embed import embed
from lookalike.index.versions.novelty import (
    NEIGHBORS,
    Novelty,
    encode_with_errors,
    item_distances,
    local_distances,
    mean_distances,
)
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.fit.split import Split
from lookalike.training.rows import open_rows, read_sample
from lookalike.training.rows.arrays import array_rows

__all__ = ["main"]

EPOCHS = 10
LOF_ROWS = 20_000
CORRUPTED = 1_000
ALARM_ROWS = 1_000
LEVELS = (0.01, 0.05, 0.10)
SEED = 1
SIDE = 28
FULL_RANGE = 255.0

Images = NDArray[np.float32]
Reals = NDArray[np.float64]
Scores = dict[str, Reals]
"""By method, one score per row; a greater score is stranger."""
Areas = dict[str, dict[str, float]]
"""AUROC by the kind of strange rows, then by method."""


class Detectors:
    """All methods, fitted on one run's training rows."""

    def __init__(self, encoder: Encoder, split: Split, seed: int) -> None:
        self.encoder = encoder
        embeddings = embed(encoder, split.train, "cosine")
        self.index = VectorIndex(IndexSpec("Flat", "cosine"), encoder.latent_dim)
        self.index.add(embeddings)
        self.own = item_distances(Embeddings(embeddings, "cosine"), len(embeddings))
        _, local = self.distances(split.validation)
        self.novelty = Novelty.calibrate(encode_with_errors(encoder, split.validation)[1], local)
        some = np.random.default_rng(seed).permutation(len(split.train))[:LOF_ROWS]
        self.forest = IsolationForest(random_state=seed).fit(split.train)
        self.factor = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(split.train[some])

    def distances(self, rows: Images) -> tuple[Reals, Reals]:
        """Map (n, width) to the mean distances (n,), and to the distances over the local scale (n,)."""
        scores, positions = self.index.search(embed(self.encoder, rows, "cosine"), NEIGHBORS)
        return mean_distances(scores, "cosine"), local_distances(scores, self.own[positions], "cosine")

    def scores(self, rows: Images) -> Scores:
        """The scores of (n, width), each (n,)."""
        errors, (distances, local) = encode_with_errors(self.encoder, rows)[1], self.distances(rows)
        return {
            "ours": -self.novelty.p_values(errors, local),
            "distance alone": distances,
            "our distance alone": local,
            "error alone": errors,
            "Isolation Forest": -self.forest.score_samples(rows),
            "Local Outlier Factor": -self.factor.score_samples(rows),
        }


def noise(rows: Images, rng: np.random.Generator) -> Images:
    """Add Gaussian noise of sigma 0.3 of the range, clipped to the range."""
    return np.clip(rows + 0.3 * FULL_RANGE * rng.standard_normal(rows.shape), 0, FULL_RANGE).astype(np.float32)


def patch(rows: Images, rng: np.random.Generator) -> Images:
    """Cover a quarter of the picture with a black square."""
    pictures = rows.reshape(-1, SIDE, SIDE).copy()
    for picture, (top, left) in zip(pictures, rng.integers(0, SIDE // 2 + 1, (len(rows), 2)), strict=True):
        picture[top : top + SIDE // 2, left : left + SIDE // 2] = 0
    return pictures.reshape(rows.shape)


def masking(rows: Images, rng: np.random.Generator) -> Images:
    """Set three in ten pixels to black."""
    return np.where(rng.random(rows.shape) < 0.3, np.float32(0), rows)


def blur(rows: Images, rng: np.random.Generator) -> Images:
    """Blur with a Gaussian of sigma 2 pixels."""
    pictures: Images = gaussian_filter(rows.reshape(-1, SIDE, SIDE), (0, 2, 2))
    return pictures.reshape(rows.shape)


CORRUPTIONS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "noise": noise,
    "a black patch": patch,
    "masking": masking,
    "blur": blur,
}


def areas(detectors: Detectors, normal: Images, novel: Images, rng: np.random.Generator) -> tuple[Areas, list[float]]:
    """The areas, and the false alarm rate at each level, of ALARM_ROWS of the normal rows."""
    normal_scores = detectors.scores(normal)
    some = normal[rng.permutation(len(normal))[:CORRUPTED]]
    strange = {"class": novel, **{name: corrupt(some, rng) for name, corrupt in CORRUPTIONS.items()}}
    found: Areas = {}
    for name, rows in strange.items():
        truth = np.repeat([0, 1], [len(normal), len(rows)])
        novel_scores = detectors.scores(rows)
        found[name] = {
            m: float(roc_auc_score(truth, np.concatenate([normal_scores[m], novel_scores[m]]))) for m in novel_scores
        }
    drawn = -normal_scores["ours"][rng.permutation(len(normal))[:ALARM_ROWS]]
    return found, [float((drawn <= level).mean()) for level in LEVELS]


def without(left_out: int, folder: Path) -> tuple[Areas, list[float]]:
    """One run, without the class of that number."""
    rows = open_rows("fashion-mnist")
    (images, labels), (tests, test_labels) = (
        read_sample(part, part.count, seed=0) for part in (rows, open_rows("fashion-mnist:test"))
    )
    kept, new = np.array(labels) != left_out, np.array(test_labels) == left_out
    name = f"fashion-mnist without {left_out}"
    config = load_config(None, [f"fit.epochs={EPOCHS}", f"fit.seed={SEED}"])
    run = train(array_rows(images[kept], name, shape=rows.shape), config, folder)
    detectors = Detectors(run.encoder, run.split, seed=left_out)
    return areas(detectors, tests[~new], tests[new], np.random.default_rng(left_out))


def lines(runs: list[Areas], which: str, claim: str, *, bars: bool) -> list[Row]:
    """Our mean area compared with each other method's."""
    means = {method: statistics.fmean(run[which][method] for run in runs) for method in runs[0][which]}
    ours = means.pop("ours")
    bar = Bar("ours / peer", ">=", 1) if bars else None
    return [row(f"{claim}, beside {peer}", "AUROC", ours=ours, peer=area, bar=bar) for peer, area in means.items()]


def alarms(rates: list[list[float]]) -> list[Row]:
    """The pooled rate at each level, and whether it is within its interval."""
    count = ALARM_ROWS * len(rates)
    rows = []
    for level, found in zip(LEVELS, zip(*rates, strict=True), strict=True):
        low, high = (float(edge) / count for edge in binom.interval(0.95, count, level))
        rate = statistics.fmean(found)
        claim = f"false alarms at {level:.0%}, of {count:,} normal rows"
        rows += [row(claim, "share", ours=rate, bar=bar) for bar in (Bar("ours", ">=", low), Bar("ours", "<=", high))]
        edges = binom.interval(0.95, ALARM_ROWS, level)
        inside = sum(edges[0] <= share * ALARM_ROWS <= edges[1] for share in found)
        print(f"at {level:.0%}: {inside} of {len(found)} runs within the 95 % interval of {ALARM_ROWS:,} rows")
    return rows


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(2)
    faiss.omp_set_num_threads(2)
    runs, rates = [], []
    for left_out in range(10):
        with TemporaryDirectory() as folder:
            found, rate = without(left_out, Path(folder) / "run")
        runs.append(found)
        rates.append(rate)
        means = ", ".join(f"{method} {area:.3f}" for method, area in found["class"].items())
        print(f"without class {left_out}: {means}; false alarms {rate}", file=sys.stderr, flush=True)
    rows = lines(runs, "class", "a class left out, mean of ten", bars=True)
    for left_out, run in enumerate(runs):
        rows += lines([run], "class", f"class {left_out} left out", bars=False)
    every = [{"all": {m: statistics.fmean(run[c][m] for c in CORRUPTIONS) for m in run["class"]}} for run in runs]
    rows += lines(every, "all", "corrupted inputs, mean of four kinds", bars=True)
    for name in CORRUPTIONS:
        rows += lines(runs, name, f"corrupted by {name}", bars=False)
    report("novelty", rows + alarms(rates))


if __name__ == "__main__":
    main()
